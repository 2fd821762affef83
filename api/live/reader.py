"""From Kafka into the live state: `chat.windows` and `chat.usage`, as far back as held, and watermarks."""

from collections.abc import Sequence
from typing import Any, Final

from api.live.coverage import Heartbeat
from api.live.live import Live, Record
from api.live.state import Limits
from api.times import Clock
from clients.kafka.follower import Follower, Records, since
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.time import MINUTE, Micros, micros_of
from schemas.topics import CLOSED, USAGE, WINDOWS

_SLACK: Final[Micros] = 10 * MINUTE
"""An event may be five minutes ahead of the clock; a block is written after its events."""
_HEARTBEATS: Final[Micros] = 2 * MINUTE
_PARTITION_BYTES: Final = 16 * 1024 * 1024
_MOST_BYTES: Final = 64 * 1024 * 1024


class Reader(Follower):
    """Every API process holds all of the topics."""

    def __init__(self, bootstrap: str, live: Live, clock: Clock, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        behind = {
            WINDOWS.name: max(limits.minutes, limits.imported) + _SLACK,
            USAGE.name: limits.usage + _SLACK,
            CLOSED.name: _HEARTBEATS,
        }
        super().__init__(
            bootstrap,
            behind,
            self._read,
            start=since(lambda topic: (clock() - behind[topic]) // 1000),
            on_caught_up=live.observe_caught_up,
            max_partition_fetch_bytes=_PARTITION_BYTES,
            fetch_max_bytes=_MOST_BYTES,
        )
        self._live = live
        self._clock = clock
        self._closed = Codec(schema(CLOSED.record))
        self.refused = 0
        """Records of `chat.closed` that could not be read."""

    async def _read(self, batches: Records) -> None:
        records = []
        for place, batch in batches.items():
            if place.topic == CLOSED.name:
                await self._hear(batch)
            else:
                records += [Record(record.key, record.value, record.timestamp * 1000) for record in batch]
        await self._live.apply(records, self._clock())

    async def _hear(self, batch: Sequence[Any]) -> None:
        heard = {}
        for record in batch:
            try:
                closed = self._closed.decode(record.value)
            except SchemaError:
                self.refused += 1
                continue
            heard[closed["table"], closed["partition"]] = Heartbeat(
                table=closed["table"],
                partition=closed["partition"],
                partitions=closed["partitions"],
                watermark=micros_of(closed["watermark"]),
                arrived_at=record.timestamp * 1000,
            )
        await self._live.observe_heartbeats(list(heard.values()))
