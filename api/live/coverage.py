"""How far the figures reach: watermarks per source partition, and what an answer lacks."""

from dataclasses import dataclass, field

from schemas.time import Micros
from schemas.topics import USAGE
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.panes import LIVE
from streams.windows.block import Block, BlockKey


@dataclass(frozen=True)
class Coverage:
    """What an answer rests on. Times are microseconds since 1970, UTC."""

    partitions: int | None
    """How many source partitions there are; None while that is unknown."""
    reporting: int
    """Of those, the ones that have reported, or have never had an event."""
    slowest_partition: int | None
    watermark: Micros | None
    """The slowest partition's; None while a partition has not reported."""
    closed_through: Micros | None
    """Panes up to here are closed: only late events still change them."""
    newest: Micros | None
    """When the newest block or heartbeat arrived."""
    missing: tuple[str, ...]
    """Why the answer is not complete, in words."""

    @property
    def complete(self) -> bool:
        """Every pane of the window is closed in every partition, and held."""
        return not self.missing


@dataclass(frozen=True)
class Heartbeat:
    """What a record of `chat.closed` says of a source partition. Times are microseconds since 1970, UTC."""

    table: str
    """Whose watermark it is: the rollup's (`chat.windows`) or the usage worker's (`chat.usage`)."""
    partition: int
    partitions: int
    watermark: Micros
    arrived_at: Micros


@dataclass
class _Source:
    """Watermarks as one worker (rollup or usage) publishes them."""

    by_partition: dict[int, Micros] = field(default_factory=dict)
    newest: Micros | None = None

    def observe(self, partition: int, watermark: Micros | None, arrived_at: Micros) -> None:
        self.newest = max(self.newest or 0, arrived_at)
        if watermark is not None:
            self.by_partition[partition] = max(self.by_partition.get(partition, 0), watermark)


class Watermarks:
    """The watermark of each source partition, which only ever rises."""

    def __init__(self) -> None:
        self.partitions: int | None = None
        self.empty: frozenset[int] = frozenset()
        """Source partitions that have never had an event: nothing of theirs can be missing."""
        self._rollup = _Source()
        self._usage = _Source()

    def observe_block(self, key: BlockKey, block: Block | None, arrived_at: Micros) -> None:
        """A record of `chat.windows` or `chat.usage`."""
        self._source(key.grouping).observe(key.partition, block.watermark if block else None, arrived_at)

    def observe_heartbeat(self, heartbeat: Heartbeat) -> None:
        """By which an idle partition's watermark follows the clock."""
        self.partitions = max(self.partitions or 0, heartbeat.partitions)
        source = self._usage if heartbeat.table == USAGE.name else self._rollup
        source.observe(heartbeat.partition, heartbeat.watermark, heartbeat.arrived_at)

    def observe_partitions(self, partitions: int, empty: frozenset[int]) -> None:
        """How many source partitions there are, and which of them never had an event."""
        self.partitions = partitions
        self.empty = empty

    def _source(self, grouping: str) -> _Source:
        kind = GROUPINGS.get(grouping)
        return self._usage if kind and kind.many_valued else self._rollup

    @property
    def of_rollup(self) -> dict[int, Micros]:
        """The rollup's watermark of each partition that has reported."""
        return dict(self._rollup.by_partition)

    @property
    def of_usage(self) -> dict[int, Micros]:
        """The usage worker's watermark of each partition that has reported."""
        return dict(self._usage.by_partition)

    def coverage(
        self, grouping: str, pane: str, end: Micros, now: Micros, *, held: bool, caught_up: bool
    ) -> Coverage:
        """How far an answer of this grouping, up to `end`, can be relied on."""
        source = self._source(grouping)
        known = source.by_partition
        silent = sorted(set(range(self.partitions or 0)) - set(known) - self.empty)
        slowest = min(known, key=known.__getitem__) if known and not silent else None
        watermark = known[slowest] if slowest is not None else None
        if slowest is None and not silent and self.partitions:
            watermark = now  # nothing has ever happened
        closed = watermark - watermark % LIVE[pane].length if watermark is not None else None
        missing = []
        if not caught_up:
            missing.append("the API is still reading the windows that were there when it started")
        if not held:
            missing.append("a part of the window is no longer in memory: ask /api/metrics/historical for it")
        if self.partitions is None:
            missing.append("the number of partitions is not known yet")
        if silent:
            missing.append(f"no report yet from partition {', '.join(map(str, silent))}")
        if closed is not None and closed < end:
            missing.append("the window's newest panes are still open")
        return Coverage(
            self.partitions,
            len(set(known) | self.empty),
            slowest,
            watermark,
            closed,
            source.newest,
            tuple(missing),
        )
