"""No person's name or address leaves the process."""

import hashlib
import hmac
import logging

import chatgauge
import pytest
from chatgauge.testing import capture

KEY = "0123456789abcdef0123456789abcdef"


def test_with_a_key_user_ids_are_stable_pseudonyms_of_128_bits() -> None:
    expected = hmac.new(KEY.encode(), b"ada@example.org", hashlib.sha256).hexdigest()[:32]
    for key in (KEY, KEY.encode()):
        gauge, captured = capture(pseudonym_key=key)
        with gauge, gauge.request(user_id="ada@example.org"), gauge.span("tool", "t"):
            pass
        assert {record["user_id"] for record in captured.requests()} == {expected}
        assert {record["user_id"] for record in captured.spans()} == {expected}
        assert {message.key for message in captured.transport.messages[:1]} == {expected.encode()}


def test_another_key_makes_other_pseudonyms() -> None:
    seen = set()
    for key in (KEY, KEY[::-1]):
        gauge, captured = capture(pseudonym_key=key)
        with gauge, gauge.request(user_id="u"):
            pass
        seen.add(captured.finished_requests()[0]["user_id"])
    assert len(seen) == 2


def test_without_a_key_an_address_never_leaves_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    gauge, captured = capture(attributes={"tier"})
    with caplog.at_level(logging.WARNING, "chatgauge"), gauge:
        for _ in range(3):
            with gauge.request(user_id="ada@example.org", space_id="ada@example.org") as request:
                request.attribute("tier", "ada@example.org")
        gauge.flush()
    record = captured.finished_requests()[0]
    assert (record["user_id"], record["space_id"], record["attributes"]) == (None, None, [])
    assert not [m for m in captured.transport.messages if b"example" in m.value + m.key]
    assert gauge.stats().invalid > 0
    assert len(caplog.records) == 1
    assert "e-mail" in caplog.text
    assert "ada" not in caplog.text


def test_an_opaque_id_stays_as_it_is() -> None:
    gauge, captured = capture()
    with gauge, gauge.request(user_id="auth0|42@tenant", model="claude-3-5-sonnet@20240620"):
        pass
    record = captured.finished_requests()[0]
    assert (record["user_id"], record["model"]) == ("auth0|42@tenant", "claude-3-5-sonnet@20240620")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(chatgauge.ConfigurationError, match="16 bytes"):
        capture(pseudonym_key="secret")
