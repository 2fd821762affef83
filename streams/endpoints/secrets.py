"""Secrets at rest: encrypted with AES-256-GCM, under keys that can be replaced one after the other.

An encrypted secret is `v1.<key id>.<nonce and ciphertext>`, and is bound to whom it belongs to: what was
encrypted for one endpoint can't be decrypted as another's. The first key encrypts, all of them decrypt.
"""

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from streams.endpoints.errors import SecretError

KEY_FILE = "secret.key"
_SETTING = "CHATGAUGE_ACCESS_SECRET_KEY"
_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key() -> str:
    """A key as it is written into the setting or the file: 32 random bytes in base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode("ascii")


def _key(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise SecretError(
            f"{where}: a key is {_KEY_BYTES} bytes in base64, such as `openssl rand -base64 32` prints"
        )
    return key


class Vault:
    """Encrypts with the first of its keys, decrypts with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise SecretError(f"secrets need at least one key, of {_KEY_BYTES} bytes each")
        ids = [hashlib.sha256(b"chatgauge key " + key).hexdigest()[:8] for key in keys]
        self._ciphers = {id_: AESGCM(key) for id_, key in zip(ids, keys, strict=True)}
        self.key_id = ids[0]
        """Which key encrypts; it tells nothing about the key."""

    def encrypt(self, secret: str, owner: str) -> str:
        """The secret as it may be stored, bound to `owner` (an endpoint's id)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self.key_id].encrypt(nonce, secret.encode(), owner.encode())
        return f"{_VERSION}.{self.key_id}.{base64.urlsafe_b64encode(sealed).decode('ascii')}"

    def decrypt(self, stored: str, owner: str) -> str:
        """The secret again. Raises SecretError: no such key, another owner, damaged."""
        version, _, rest = stored.partition(".")
        key_id, _, text = rest.partition(".")
        if version != _VERSION or not text:
            raise SecretError("this is not an encrypted secret")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SecretError(
                f"the secret was encrypted with the key {key_id}, and only {', '.join(self._ciphers)} is "
                f"there: add it to {_SETTING} or to {KEY_FILE}, after the newest"
            )
        try:
            sealed = base64.urlsafe_b64decode(text)
            plain = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError):
            raise SecretError(f"the secret is damaged, or was not encrypted for {owner}") from None
        return plain.decode()


def open_vault(setting: str | None, data: Path, *, create: bool = False) -> Vault:
    """The vault with the keys of the setting (separated by commas, the newest first), else of the key file.

    `create`: makes `<data>/secret.key` where there is neither, for its owner alone; of several that do so at
    once one wins, and all take its key. Raises SecretError, which says what to do.
    """
    if setting and setting.strip():
        return Vault([_key(text, _SETTING) for text in setting.split(",")])
    path = data / KEY_FILE
    if create and not path.exists():
        _make(path)
    return Vault(_read(path))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(new_key() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()


def _read(path: Path) -> list[bytes]:
    try:
        mode = path.stat().st_mode
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        raise SecretError(
            f"there is no key to encrypt secrets with: set {_SETTING} (32 bytes in base64, "
            f"`openssl rand -base64 32`), the same for all parts, or put it into {path}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"{path} can't be read: {error}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SecretError(f"{path} can be read by others than its owner: chmod 600 {path}")
    return [_key(line, str(path)) for line in lines if line.strip() and not line.startswith("#")]
