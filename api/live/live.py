"""The live state as the rest of the API sees it: in a thread of its own, so that merges block nobody."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from api.live.coverage import Heartbeat
from api.live.figures import age_ms, coverage_report, error_counts, groups, window_span
from api.live.state import Counts, Include, LiveState
from api.models.current import Current, ErrorsByType
from schemas.time import MINUTE, Micros

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Record:
    """A Kafka record of `chat.windows` or `chat.usage`; `arrived_at` is its timestamp."""

    key: bytes | None
    value: bytes | None
    arrived_at: Micros


@dataclass(frozen=True)
class Vitals:
    """The live state's own figures. Watermarks by source partition."""

    blocks: int
    block_bytes: int
    cache_bytes: int
    counts: Counts
    rollup_watermarks: dict[int, Micros]
    usage_watermarks: dict[int, Micros]


class Live:
    """Applies records and answers questions, one after the other, in a thread of its own."""

    def __init__(self, state: LiveState | None = None) -> None:
        self._state = state or LiveState()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    @property
    def caught_up(self) -> bool:
        """What was there at the start has been read."""
        return self._state.caught_up

    async def apply(self, records: Sequence[Record], now: Micros) -> None:
        """Take records in their order, then let go of what is past its time."""
        await self._do(self._apply, records, now)

    async def observe_heartbeats(self, heartbeats: Sequence[Heartbeat]) -> None:
        """Take watermarks from `chat.closed`."""
        for heartbeat in heartbeats:
            await self._do(self._state.watermarks.observe_heartbeat, heartbeat)

    async def observe_partitions(self, partitions: int, empty: frozenset[int]) -> None:
        """How many source partitions there are, and which of them never had an event."""
        await self._do(self._state.watermarks.observe_partitions, partitions, empty)

    def observe_caught_up(self) -> None:
        """What was there at the start has been read."""
        self._state.caught_up = True

    async def current(
        self,
        length: Micros,
        grouping: str,
        now: Micros,
        *,
        key: Sequence[str] = (),
        at: Micros | None = None,
        include: Include = Include.LIVE,
        limit: int = 100,
    ) -> Current:
        """Figures of the last `length`, as `/api/metrics/current` answers them."""
        return await self._do(self._current, length, grouping, now, key, at, include, limit)

    async def vitals(self) -> Vitals:
        """The live state's own figures."""
        return await self._do(self._vitals)

    async def _do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: function(*args, **kwargs)
        )

    def _apply(self, records: Sequence[Record], now: Micros) -> None:
        for record in newest(records):
            self._state.apply(record.key, record.value, record.arrived_at)
        self._state.sweep(now)

    def _current(
        self,
        length: Micros,
        grouping: str,
        now: Micros,
        key: Sequence[str],
        at: Micros | None,
        include: Include,
        limit: int,
    ) -> Current:
        window = self._state.window(length, grouping, now, at=at, include=include)
        answer = self._state.query(window, grouping, now, key=key, include=include)
        shown, left_out = groups(answer, grouping, limit)
        errors = None
        if grouping == "total":
            minutes = self._state.window(max(length, MINUTE), "error", now, at=at, include=include)
            counted = self._state.query(minutes, "error", now, include=include)
            errors = ErrorsByType(window=window_span(minutes), counts=error_counts(counted.rows))
        return Current(
            window=window_span(window),
            grouping=grouping,
            include=include,
            age_ms=age_ms(answer.coverage, now),
            coverage=coverage_report(answer.coverage),
            groups=shown,
            left_out=left_out,
            errors_by_type=errors,
        )

    def _vitals(self) -> Vitals:
        state = self._state
        return Vitals(
            len(state),
            state.size,
            state.cache_size,
            Counts(**vars(state.counts)),
            state.watermarks.of_rollup,
            state.watermarks.of_usage,
        )


def newest(records: Sequence[Record]) -> list[Record]:
    """What of a batch matters: per key the last block, and before it a tombstone if there was one."""
    tombstones: dict[bytes | None, Record] = {}
    blocks: dict[bytes | None, Record] = {}
    for record in records:
        if record.value is None:
            tombstones[record.key] = record
            blocks.pop(record.key, None)
        else:
            # Taken out first, so that the blocks stand in the order of their newest records.
            blocks.pop(record.key, None)
            blocks[record.key] = record
    return [*tombstones.values(), *blocks.values()]
