"""Watches over endpoints that fail: when people are warned, and when an endpoint is disabled. Pure.

What it finds is done in this order, each step being repeated harmlessly after a crash: the notices are
sent, the entries are written, the definitions are published until they have been read back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from schemas.time import HOUR, MINUTE, Micros
from streams.deliveries.endpoint_queue import EndpointQueue, Target
from streams.deliveries.health import Health
from streams.deliveries.outbox import Outbox

_HEALTH: Final = b"e"
_SHUT: Final = b"x"
_WORTH_KEEPING: Final = MINUTE
"""An endpoint that has been failing for less is not in the state: most recover at the next attempt."""
_REFRESHED: Final = HOUR


class Shut(NamedTuple):
    """An endpoint that is to be disabled: this version of its definition."""

    revision: int
    because: str


class Notice(NamedTuple):
    """What people are to be told of an endpoint."""

    endpoint_id: str
    health: Health
    share: float
    """Of the time until it is disabled; 1 and more: it has been."""
    disabled_because: str | None


@dataclass
class Seen:
    """What is to be done."""

    notices: list[Notice] = field(default_factory=list)
    entries: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    """By partition and key."""
    disable: dict[str, Shut] = field(default_factory=dict)
    """Definitions to be published."""

    def write(self, partition: int, key: bytes, entry: bytes | None) -> None:
        """The entry is to be written."""
        self.entries.setdefault(partition, {})[key] = entry


class EndpointWatch:
    """Over the endpoints of all partitions that are ours. `limit` is how long one may fail."""

    def __init__(self, limit: Micros) -> None:
        self._limit = limit
        self._kept: dict[str, tuple[Micros | None, float, Micros]] = {}
        self._shut: dict[str, Shut] = {}

    def restore(self, partition: int, entries: Mapping[bytes, bytes], outbox: Outbox, now: Micros) -> None:
        """Take up what the partition's state has of endpoints."""
        for key, packed in entries.items():
            endpoint_id = key[1:].decode()
            if key.startswith(_HEALTH):
                queue = outbox.queue_of(endpoint_id, partition, now)
                queue.health = Health.unpack(packed)
                self._kept[endpoint_id] = _essence(queue.health)
            elif key.startswith(_SHUT):
                outbox.queue_of(endpoint_id, partition, now)
                self._shut[endpoint_id] = Shut(*orjson.loads(packed))
                outbox.close(endpoint_id, self._shut[endpoint_id].because, now)

    def look(self, outbox: Outbox, now: Micros) -> Seen:
        """What is to be done now."""
        seen = Seen()
        for queue in outbox.queues.values():
            if queue.target.endpoint is None or not queue.target.endpoint.enabled:
                queue.health.succeeded()  # a new life, once it is enabled again
            elif queue.endpoint_id not in outbox.shut:
                self._judge(queue, outbox, seen, now)
            self._follow(queue, outbox, seen, now)
            self._keep(queue, seen, now)
        return seen

    def _judge(self, queue: EndpointQueue, outbox: Outbox, seen: Seen, now: Micros) -> None:
        health = queue.health
        if health.hopeless(now, self._limit):
            outbox.close(queue.endpoint_id, f"every attempt for {_days(self._limit)} has failed", now)
        elif (share := health.warning(now, self._limit)) is not None:
            health.warned = share
            seen.notices.append(Notice(queue.endpoint_id, health, share, None))

    def _follow(self, queue: EndpointQueue, outbox: Outbox, seen: Seen, now: Micros) -> None:
        """Disable what is shut, until its definition says so, or is another one."""
        id_, target = queue.endpoint_id, queue.target
        because, shut = outbox.shut.get(id_), self._shut.get(id_)
        if because is None:
            return
        if shut is None:
            shut = self._shut[id_] = Shut(target.revision, because)
            seen.write(queue.partition, _SHUT + id_.encode(), orjson.dumps(list(shut)))
            share = queue.health.share(now, self._limit)
            seen.notices.append(Notice(id_, queue.health, share, because))
        if _obeyed(target, shut):
            del self._shut[id_]
            seen.write(queue.partition, _SHUT + id_.encode(), None)
            queue.health.succeeded()
            outbox.reopen(id_, now)
        else:
            seen.disable[id_] = shut

    def _keep(self, queue: EndpointQueue, seen: Seen, now: Micros) -> None:
        health, kept = queue.health, self._kept.get(queue.endpoint_id)
        key = _HEALTH + queue.endpoint_id.encode()
        since = health.failing_since
        if since is None or now - since < _WORTH_KEEPING:
            if kept is not None:
                del self._kept[queue.endpoint_id]
                seen.write(queue.partition, key, None)
        elif kept != _essence(health):
            self._kept[queue.endpoint_id] = _essence(health)
            seen.write(queue.partition, key, health.pack())


def _essence(health: Health) -> tuple[Micros | None, float, Micros]:
    return health.failing_since, health.warned, health.failed_at // _REFRESHED


def _obeyed(target: Target, shut: Shut) -> bool:
    return target.endpoint is None or not target.endpoint.enabled or target.revision > shut.revision


def _days(limit: Micros) -> str:
    hours = limit / HOUR
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:.3g} hours"
