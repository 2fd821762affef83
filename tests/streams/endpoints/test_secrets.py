"""Secrets at rest."""

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streams.endpoints.errors import SecretError
from streams.endpoints.secrets import Vault, new_key, open_vault


def vault(*keys: str) -> Vault:
    return open_vault(",".join(keys or [new_key()]), Path("/nowhere"))


def test_a_secret_comes_back_and_does_not_show() -> None:
    kept = vault()
    stored = kept.encrypt("whsec_geheim", "ep_1")

    assert kept.decrypt(stored, "ep_1") == "whsec_geheim"
    assert "geheim" not in stored
    assert base64.b64encode(b"geheim").decode().rstrip("=") not in stored
    assert kept.encrypt("whsec_geheim", "ep_1") != stored


def test_a_secret_of_one_endpoint_can_t_be_used_as_another_s() -> None:
    kept = vault()

    with pytest.raises(SecretError, match="not encrypted for ep_2"):
        kept.decrypt(kept.encrypt("whsec_geheim", "ep_1"), "ep_2")


def test_keys_are_replaced_one_after_the_other() -> None:
    old, new = new_key(), new_key()
    stored = vault(old).encrypt("geheim", "ep_1")
    rotating = vault(new, old)

    assert rotating.decrypt(stored, "ep_1") == "geheim"
    with pytest.raises(SecretError):
        vault(new).decrypt(stored, "ep_1")
    again = rotating.encrypt(rotating.decrypt(stored, "ep_1"), "ep_1")
    assert vault(new).decrypt(again, "ep_1") == "geheim"


def test_a_key_that_is_gone_is_named() -> None:
    old = vault()
    stored = old.encrypt("geheim", "ep_1")

    with pytest.raises(SecretError) as raised:
        vault().decrypt(stored, "ep_1")

    assert old.key_id in str(raised.value)
    assert "CHATGAUGE_ACCESS_SECRET_KEY" in str(raised.value)


@pytest.mark.parametrize("stored", ["", "geheim", "v1.", "v1.abc", "v2.00000000.AAAA"])
def test_what_is_no_encrypted_secret(stored: str) -> None:
    with pytest.raises(SecretError, match="not an encrypted secret"):
        vault().decrypt(stored, "ep_1")


def test_a_damaged_secret_is_never_taken() -> None:
    kept = vault()
    stored = kept.encrypt("geheim", "ep_1")
    head, sealed = stored.rsplit(".", 1)
    raw = base64.urlsafe_b64decode(sealed)

    for at in range(len(raw)):
        damaged = bytes([*raw[:at], raw[at] ^ 1, *raw[at + 1 :]])
        with pytest.raises(SecretError, match="damaged"):
            kept.decrypt(f"{head}.{base64.urlsafe_b64encode(damaged).decode()}", "ep_1")
    with pytest.raises(SecretError, match="damaged"):
        kept.decrypt(f"{head}.AAAA", "ep_1")


@pytest.mark.parametrize(
    "key",
    [
        "short",
        base64.b64encode(b"x" * 31).decode(),
        "not base64 !!",
        base64.b64encode(b"k" * 32).decode() + ",",
    ],
)
def test_a_key_that_is_none_is_told_how_to_make_one_and_not_quoted(key: str) -> None:
    with pytest.raises(SecretError, match="openssl rand -base64 32") as raised:
        open_vault(key, Path("/nowhere"))

    assert key.split(",")[0] not in str(raised.value)


def test_a_key_of_either_base64_is_taken() -> None:
    raw = b"\xfb\xff" * 16
    stored = open_vault(base64.b64encode(raw).decode(), Path("/nowhere")).encrypt("geheim", "ep_1")

    again = open_vault(base64.urlsafe_b64encode(raw).decode(), Path("/nowhere"))

    assert again.decrypt(stored, "ep_1") == "geheim"


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    stored = open_vault(None, tmp_path / "data", create=True).encrypt("geheim", "ep_1")
    file = tmp_path / "data/secret.key"

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert open_vault("", tmp_path / "data").decrypt(stored, "ep_1") == "geheim"
    assert list(file.parent.iterdir()) == [file]


def test_of_several_first_starts_one_makes_the_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = {
            opened.key_id
            for opened in threads.map(lambda _: open_vault(None, tmp_path, create=True), range(32))
        }

    assert len(ids) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_the_file_holds_old_keys_too(tmp_path: Path) -> None:
    stored = open_vault(None, tmp_path, create=True).encrypt("geheim", "ep_1")
    file = tmp_path / "secret.key"
    file.write_text(f"# the new one\n{new_key()}\n{file.read_text()}\n")

    again = open_vault(None, tmp_path)

    assert again.decrypt(stored, "ep_1") == "geheim"
    assert again.key_id not in stored


def test_without_a_key_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="set CHATGAUGE_ACCESS_SECRET_KEY"):
        open_vault(None, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    open_vault(None, tmp_path, create=True)
    (tmp_path / "secret.key").chmod(mode)

    with pytest.raises(SecretError, match=r"chmod 600"):
        open_vault(None, tmp_path)


def test_an_empty_file_is_no_key(tmp_path: Path) -> None:
    os.close(os.open(tmp_path / "secret.key", os.O_CREAT | os.O_WRONLY, 0o600))

    with pytest.raises(SecretError, match="at least one key"):
        open_vault(None, tmp_path, create=True)
