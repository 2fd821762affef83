"""`endpoint.failing`: what is told about an endpoint that fails, to those that ask to be told."""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from schemas.time import SECOND, Micros
from streams.deliveries.endpoint_watch import Notice
from streams.deliveries.notification import Notification
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.subscription import ENDPOINT_FAILING

_ID: Final = 20


def notices(
    notice: Notice, failing: Endpoint, others: Iterable[Endpoint], limit: Micros, now: Micros
) -> list[Notification]:
    """The notifications to all other endpoints that subscribe to it.

    Their ids are made of the endpoint, the failure's beginning and the share: told twice they are the same.
    """
    data = _data(notice, failing, limit)
    body = orjson.dumps({"type": ENDPOINT_FAILING, "timestamp": _time(now), "data": data}).decode()
    told = (
        f"{failing.id}\0{notice.health.failing_since}\0{notice.share if not data['disabled'] else 'disabled'}"
    )
    return [
        Notification(_id(told, other.id), other.id, ENDPOINT_FAILING, now, body)
        for other in others
        if other.id != failing.id and other.enabled and other.wants(ENDPOINT_FAILING, data)
    ]


def _data(notice: Notice, failing: Endpoint, limit: Micros) -> dict[str, Any]:
    health = notice.health
    since = health.failing_since
    disabled = notice.disabled_because is not None
    return {
        "endpoint_id": failing.id,
        "endpoint_name": failing.name,
        "channel": failing.channel,
        "failing_since": None if since is None else _time(since),
        "share": round(notice.share, 3),
        "disabled": disabled,
        "disabled_because": notice.disabled_because,
        "to_be_disabled_at": None if since is None or disabled else _time(since + limit),
        "error": health.error,
    }


def _time(at: Micros) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _id(told: str, to: str) -> str:
    return "nt_" + hashlib.sha256(f"{told}\0{to}".encode()).hexdigest()[:_ID]
