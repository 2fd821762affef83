"""Names that are made from what they name: made again, they are the same."""

import hashlib

_HEX = 24


def notification_id(*parts: str | int) -> str:
    """The id of a notification, the `webhook-id` of its deliveries."""
    return f"nt_{_digest(parts)}"


def decision_id(*parts: str | int) -> str:
    """The id of a decision."""
    return f"de_{_digest(parts)}"


def _digest(parts: tuple[str | int, ...]) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:_HEX]
