"""Signatures, as the reference libraries of Standard Webhooks verify them, in Python and in Node."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from streams.deliveries.signing import new_secret, signature_headers

ROOT = Path(__file__).parents[3]
MODULES = ROOT / "var/lib/node/node_modules"
BODY = (
    '{"type":"alert.firing","timestamp":"2026-01-31T09:30:00.000000Z","data":{"name":"Zoë \\u2028 ünïcode"}}'
)


def test_a_secret_is_32_random_bytes() -> None:
    secrets = {new_secret() for _ in range(100)}

    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith("whsec_")
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_the_headers_are_those_of_the_standard() -> None:
    headers = signature_headers("nt_1", BODY, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], 1_700_000_000.9)

    assert headers["webhook-id"] == "nt_1"
    assert headers["webhook-timestamp"] == "1700000000"
    assert headers["webhook-signature"].startswith("v1,")


def test_the_standard_s_own_example() -> None:
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        '{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        1_614_265_330,
    )

    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_has_no_secret_is_not_signed() -> None:
    assert "webhook-signature" not in signature_headers("nt_1", BODY, [], 1_700_000_000)


class Case:
    """A delivery as it arrives."""

    def __init__(self, secret: str, headers: Mapping[str, str], body: str = BODY) -> None:
        self.secret, self.headers, self.body = secret, dict(headers), body


def cases() -> dict[str, tuple[Case, bool]]:
    """Deliveries, and whether they have to be taken."""
    now = time.time()
    old, new, other = new_secret(), new_secret(), new_secret()
    good = signature_headers("nt_1", BODY, [new], now)
    rotating = signature_headers("nt_1", BODY, [new, old], now)
    return {
        "signed": (Case(new, good), True),
        "rotating, the receiver knows the new one": (Case(new, rotating), True),
        "rotating, the receiver knows the old one": (Case(old, rotating), True),
        "another secret": (Case(other, good), False),
        "rotating, another secret": (Case(other, rotating), False),
        "rotated, the receiver knows the old one only": (Case(old, good), False),
        "another body": (Case(new, good, BODY.replace("Zoë", "Zoe")), False),
        "another id": (Case(new, good | {"webhook-id": "nt_2"}), False),
        "another time": (Case(new, good | {"webhook-timestamp": str(int(now) - 1)}), False),
        "ten minutes old": (Case(new, signature_headers("nt_1", BODY, [new], now - 600)), False),
        "of the future": (Case(new, signature_headers("nt_1", BODY, [new], now + 600)), False),
        "not signed": (Case(new, signature_headers("nt_1", BODY, [], now)), False),
        "of another version": (
            Case(new, good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")}),
            False,
        ),
    }


def test_python_s_reference_library_takes_what_is_right_and_nothing_else() -> None:
    def taken(case: Case) -> bool:
        try:
            Webhook(case.secret).verify(case.body.encode(), case.headers)
        except WebhookVerificationError:
            return False
        return True

    checked = cases()

    assert {name: taken(case) for name, (case, _) in checked.items()} == {
        name: right for name, (_, right) in checked.items()
    }


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node")
@pytest.mark.skipif(not MODULES.exists(), reason="make install has not installed the tests' Node packages")
def test_node_s_reference_library_takes_what_is_right_and_nothing_else() -> None:
    checked = cases()
    given: list[dict[str, Any]] = [vars(case) for case, _ in checked.values()]

    ran = subprocess.run(
        ["node", ROOT / "tests/node/verify.cjs"],
        input="\n".join(map(json.dumps, given)),
        env={**os.environ, "NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    verdicts = dict(zip(checked, ran.stdout.splitlines(), strict=True))
    assert {name: verdict == "ok" for name, verdict in verdicts.items()} == {
        name: right for name, (_, right) in checked.items()
    }
    assert verdicts["another body"] == "No matching signature found"
    assert verdicts["ten minutes old"] == "Message timestamp too old"
