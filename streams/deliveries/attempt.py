"""What the log on chat.deliveries says of an attempt."""

from typing import Any, Final

from schemas.time import Micros
from streams.deliveries.channel import Response
from streams.deliveries.delivery import Delivery
from streams.deliveries.outcome import Next, Outcome

LARGEST_REQUEST: Final = 8 * 1024
LARGEST_RESPONSE: Final = 2 * 1024
_LARGEST_ERROR: Final = 1024


def attempt_record(
    delivery: Delivery,
    channel: str,
    response: Response,
    following: Next,
    started_at: Micros,
    ended_at: Micros,
) -> dict[str, Any]:
    """An attempt that was made, the `delivery.attempts`-th; an Avro record of type DeliveryAttempt."""
    return {
        **_common(delivery, channel, delivery.attempts, following.outcome),
        "status": response.status,
        "error": cut(response.error, _LARGEST_ERROR) if response.error else None,
        "started_at": started_at,
        "took_us": max(0, ended_at - started_at),
        "next_attempt_at": following.at,
        "request": cut(response.request, LARGEST_REQUEST),
        "response": cut(response.response, LARGEST_RESPONSE),
    }


def decision_record(
    delivery: Delivery, channel: str, outcome: Outcome, reason: str, now: Micros
) -> dict[str, Any]:
    """The decision to make no (further) attempt."""
    return {
        **_common(delivery, channel, 0, outcome),
        "status": None,
        "error": cut(reason, _LARGEST_ERROR),
        "started_at": now,
        "took_us": 0,
        "next_attempt_at": None,
        "request": "",
        "response": "",
    }


def _common(delivery: Delivery, channel: str, attempt: int, outcome: Outcome) -> dict[str, Any]:
    return {
        "attempt_id": f"{delivery.notification_id}/{delivery.redriven}/{attempt}",
        "notification_id": delivery.notification_id,
        "endpoint_id": delivery.endpoint_id,
        "channel": channel,
        "type": delivery.type,
        "attempt": attempt,
        "redriven": delivery.redriven,
        "outcome": outcome.value,
    }


def cut(text: str, most: int) -> str:
    """The text, cut to so many bytes of UTF-8."""
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= most else encoded[:most].decode(errors="ignore")
