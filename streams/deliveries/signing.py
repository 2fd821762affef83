"""Signatures by Standard Webhooks: what says that a body comes from here, and when.

The signed text is `id.timestamp.body`, the signature HMAC-SHA256, the header one signature per secret: while
a secret is being replaced, a receiver finds one that fits whichever it knows.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

_SECRET_BYTES = 32
PREFIX = "whsec_"


def new_secret() -> str:
    """A secret of 32 random bytes, as `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


def signature_headers(notification_id: str, body: str, whsecs: Sequence[str], now: float) -> dict[str, str]:
    """`webhook-id`, `webhook-timestamp` and `webhook-signature`, a signature per secret, in their order.

    `now` in seconds since 1970. Without secrets nothing is signed.
    """
    moment = datetime.fromtimestamp(int(now), UTC)
    headers = {"webhook-id": notification_id, "webhook-timestamp": str(int(now))}
    if whsecs:
        headers["webhook-signature"] = " ".join(
            Webhook(whsec).sign(notification_id, moment, body) for whsec in whsecs
        )
    return headers
