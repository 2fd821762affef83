"""Notifications for the delivery agent, the receivers of its webhooks, and what has come of both.

The receivers take everything at once. A notification is lost if none of them got it. It is doubled if one
got it again after the log had said that it is delivered: what is known to be delivered is never begun again.
(A worker that is killed or paused between an answer and its record repeats what it has no record of.)
"""

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from schemas.contract import schema
from streams.deliveries.notification import Notification
from streams.endpoints.secrets import open_vault
from tests.end_to_end.log import Log
from tests.end_to_end.published import records_of
from tests.faults.feed import give_up
from tests.streams.deliveries.drill.receiver import Receiver, Request
from tests.streams.deliveries.drill.topics import new_secret, notification, set_up

TOPIC: Final = "chat.notifications"
_NOTIFICATION: Final = Codec(schema("Notification"))
_LOG: Final = "chat.deliveries"
_ENDPOINTS: Final = 4
_TIMEOUT_S: Final = 5.0
_ACKNOWLEDGED_WITHIN_S: Final = 30.0
_CONTINUED_S: Final = 2.0
"""What a paused worker had under way goes out when it is continued, whoever has delivered it meanwhile."""


@dataclass
class Deliveries:
    """What has come of notifications."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    repeats: int = 0
    """Those that came more than once, as they may."""

    @property
    def differences(self) -> list[str]:
        """What is not as it must be, in words."""
        found = (("never came", self.lost), ("came again after they were delivered", self.doubled))
        return [f"notifications: {len(ids)} {what}: {ids[:5]}" for what, ids in found if ids]


def reckon(
    wanted: Iterable[str],
    requests: Sequence[Request],
    delivered_at: Mapping[str, float],
    continued: Sequence[float],
) -> Deliveries:
    """Hold what receivers got against what was sent, and against when the log said that it was delivered.

    `continued` is when a paused worker was continued. All times are seconds since 1970.
    """
    result, taken = Deliveries(), dict[str, list[Request]]()
    for request in requests:
        if request.taken:
            taken.setdefault(request.webhook_id, []).append(request)
    for id_ in wanted:
        got = taken.get(id_, [])
        result.repeats += len(got) > 1
        known = delivered_at.get(id_)
        again = known is not None and any(
            request.at > known and not any(0 <= request.at - moment <= _CONTINUED_S for moment in continued)
            for request in got
        )
        if not got:
            result.lost.append(id_)
        if again:
            result.doubled.append(id_)
    return result


class Notifications:
    """Sends `rate` notifications a second while it runs, evenly over the partitions, and receives them."""

    def __init__(self, bootstrap: str, data: Path, *, rate: float = 6, seed: int = 1) -> None:
        self.acknowledged: list[str] = []
        """The ids of those that Kafka has."""
        self._bootstrap = bootstrap
        self._data = data
        self._every = 1 / rate
        self._chance = random.Random(seed)
        self._receivers = [
            Receiver(f"endpoint-{number}", new_secret(), seed, failing=0) for number in range(_ENDPOINTS)
        ]
        self._next: Notification | None = None
        self._steady = threading.Event()
        self._idle = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="notifications", daemon=True
        )

    def start(self) -> None:
        """Begin, or go on."""
        self._idle.clear()
        self._steady.set()
        if not self._thread.is_alive():
            self._thread.start()

    def pause(self, within_s: float = 120) -> None:
        """Make no more, and return once Kafka has all; TimeoutError if that takes too long."""
        self._steady.clear()
        if self._thread.is_alive() and not self._idle.wait(within_s):
            raise TimeoutError(f"a notification is not acknowledged after {within_s:.0f} s")

    def stop(self) -> None:
        """End, and receive no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def all_taken(self) -> bool:
        """Whether everything that Kafka has was received."""
        taken = set[str]().union(*(receiver.taken for receiver in self._receivers))
        return taken.issuperset(self.acknowledged)

    def outcome(self, continued: Sequence[float]) -> Deliveries:
        """What has come of them so far; see `reckon`."""
        delivered_at: dict[str, float] = {}
        for record, attempt in records_of(Log(self._bootstrap), _LOG, "delivery_attempt"):
            if attempt is not None and attempt["outcome"] == "delivered":
                at = record.timestamp_ms / 1_000
                id_ = attempt["notification_id"]
                delivered_at[id_] = min(at, delivered_at.get(id_, at))
        requests = [request for receiver in self._receivers for request in list(receiver.requests)]
        return reckon(list(self.acknowledged), requests, delivered_at, continued)

    async def _run(self) -> None:
        vault = open_vault(None, self._data, create=True)
        try:
            endpoints = [(each.endpoint_id, await each.start(), each.secret) for each in self._receivers]
            await set_up(self._bootstrap, vault, endpoints, _TIMEOUT_S)
            while not self._ended.is_set():
                with contextlib.suppress(KafkaError, OSError):
                    await self._send()
                await asyncio.sleep(0.2)
        finally:
            for receiver in self._receivers:
                await receiver.stop()

    async def _send(self) -> None:
        """Until something fails, or the end."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap, enable_idempotence=True, request_timeout_ms=15_000
        )
        try:
            await producer.start()
            partitions = sorted(await producer.partitions_for(TOPIC))
            while not self._ended.is_set():
                if self._steady.is_set():
                    await self._send_one(producer, partitions)
                else:
                    self._idle.set()
                await asyncio.sleep(self._every)
        finally:
            await give_up(producer)

    async def _send_one(self, producer: AIOKafkaProducer, partitions: Sequence[int]) -> None:
        number = len(self.acknowledged)
        if self._next is None:
            self._next = notification(number, self._chance.choice(self._receivers).endpoint_id)
        value = _NOTIFICATION.encode(self._next.record())
        partition = partitions[number % len(partitions)]
        async with asyncio.timeout(_ACKNOWLEDGED_WITHIN_S):
            await producer.send_and_wait(TOPIC, value, self._next.endpoint_id.encode(), partition=partition)
        self.acknowledged.append(self._next.notification_id)
        self._next = None
