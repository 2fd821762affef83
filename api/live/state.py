"""The live state, pure: blocks go in as they come from Kafka, merged figures come out. Not thread-safe."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import polars as pl
import pyarrow as pa

from api.live.cache import MergeCache, Node
from api.live.coverage import Coverage, Watermarks
from schemas.errors import SchemaError
from schemas.time import HOUR, MINUTE, Micros
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.panes import LIVE, ONE_MINUTE, PANES, PaneLength
from streams.windows.block import Block, BlockKey, read_block, read_rows, row_schema
from streams.windows.merge import merge
from streams.windows.spans import cover

_log = logging.getLogger(__name__)

_OVERHEAD: Final = 1_024
"""Bytes that a held block takes beside its rows: the envelope and its places in the indexes."""


class Include(StrEnum):
    """Which events count: those that were reported as they happened, those brought in afterwards, or both."""

    LIVE = "live"
    IMPORTED = "imported"
    ALL = "all"

    @property
    def origins(self) -> tuple[bool, ...]:
        """`WindowBlock.imported` of the blocks that count."""
        return {"live": (False,), "imported": (True,), "all": (False, True)}[self.value]


@dataclass(frozen=True)
class Limits:
    """How much is held. Spans are in microseconds of event time; imported blocks go by their arrival."""

    seconds: Micros = 15 * MINUTE
    minutes: Micros = 26 * HOUR
    usage: Micros = 2 * HOUR
    """One-minute panes of many-valued groupings."""
    imported: Micros = 26 * HOUR
    max_bytes: int = 512 * 1024 * 1024
    cache_bytes: int = 128 * 1024 * 1024

    def of(self, pane: str, grouping: str) -> Micros:
        """How long a live block is held after its pane's end."""
        if PANES[pane].live_only:
            return self.seconds
        return self.usage if GROUPINGS[grouping].many_valued else self.minutes

    def of_imported(self, grouping: str) -> Micros:
        """How long an imported block is held after its arrival."""
        return min(self.imported, self.usage) if GROUPINGS[grouping].many_valued else self.imported


@dataclass
class Counts:
    """What became of the records that were read."""

    applied: int = 0
    outdated: int = 0
    """Blocks older than the one that is held."""
    expired: int = 0
    """Tombstones, and blocks whose time is over."""
    evicted: int = 0
    """Blocks dropped because `Limits.max_bytes` was reached."""
    refused: int = 0
    """Records that are no window blocks."""


class _PaneId(NamedTuple):
    pane: str
    start: Micros
    grouping: str
    imported: bool


@dataclass
class _Pane:
    end: Micros
    blocks: dict[tuple[int, int], dict[int, Block]] = field(default_factory=dict)
    """By (partition, bucket) and by the offset they count from."""
    arrived_at: Micros = 0
    size: int = 0

    def all(self) -> Iterator[Block]:
        for by_since in self.blocks.values():
            yield from by_since.values()


class Window(NamedTuple):
    """A span of event time, made of whole panes but for the last, which may still be running."""

    pane: str
    start: Micros
    end: Micros

    @property
    def seconds(self) -> float:
        """Its length in seconds: what rates are divided by."""
        return (self.end - self.start) / 1e6


@dataclass(frozen=True)
class Answer:
    """Merged rows of a window: one per group, in the columns of a block's rows."""

    window: Window
    rows: pl.DataFrame
    coverage: Coverage


def finest(grouping: str, length: Micros, include: Include) -> PaneLength:
    """The shortest pane that a live window of `length` can be put together of."""
    return next(
        (
            pane
            for pane in LIVE.values()
            if pane.has(grouping)
            and length <= pane.longest_window
            and not (pane.live_only and include is not Include.LIVE)
        ),
        ONE_MINUTE,
    )


class LiveState:
    """The newest block of every key, within limits of time and memory."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.counts = Counts()
        self.watermarks = Watermarks()
        self.caught_up = False
        """Everything has been read that was there at the start."""
        self.size = 0
        """Bytes held in blocks."""
        self._panes: dict[_PaneId, _Pane] = {}
        self._gone: dict[tuple[str, bool, bool], tuple[Micros, Micros]] = {}
        self._cache = MergeCache(self.limits.cache_bytes)

    def __len__(self) -> int:
        return sum(len(by_since) for pane in self._panes.values() for by_since in pane.blocks.values())

    @property
    def cache_size(self) -> int:
        """Bytes held in merged results."""
        return self._cache.size

    def apply(self, key: bytes | None, value: bytes | None, arrived_at: Micros) -> None:
        """Take a record of `chat.windows` or `chat.usage`; `arrived_at` is its Kafka timestamp.

        What is no block, or not the key's, is counted as refused. A block of the same key and `since`
        replaces the one held unless it is older; one with another `since` adds to it. A tombstone drops
        the key.
        """
        try:
            parsed = BlockKey.decode(key or b"")
            block = None if value is None else read_block(value)
            if block is not None and block.key != parsed:
                raise ValueError("the key is another block's")
        except (SchemaError, ValueError):
            self.counts.refused += 1
            return
        self.watermarks.observe_block(parsed, block, arrived_at)
        if parsed.pane not in LIVE or parsed.grouping not in GROUPINGS:
            return
        if block is None:
            self._expire(parsed)
        else:
            self._hold(parsed, block, arrived_at)

    def sweep(self, now: Micros) -> None:
        """Let go of what is past its time at `now`, and, over the byte limit, of what was written first."""
        for pane_id, pane in list(self._panes.items()):
            if pane_id.imported:
                over = pane.arrived_at + self.limits.of_imported(pane_id.grouping)
            else:
                over = pane.end + self.limits.of(pane_id.pane, pane_id.grouping)
            if over <= now:
                self.counts.expired += self._forget(pane_id)
        while self.size > self.limits.max_bytes and self._panes:
            self.counts.evicted += self._forget(next(iter(self._panes)))

    def window(
        self,
        length: Micros,
        grouping: str,
        now: Micros,
        *,
        at: Micros | None = None,
        include: Include = Include.LIVE,
    ) -> Window:
        """The panes for a window of `length` up to `now`, or of whole panes up to the past moment `at`.

        Up to `now` the window begins at the pane that holds `now - length` and ends in the running one.
        """
        end = now if at is None else at
        pane = finest(grouping, length, include)
        if pane.live_only and end - length < now - self.limits.of(pane.name, grouping):
            pane = ONE_MINUTE
        span = pane.length
        if at is not None:
            end -= end % span
        start = end - length
        return Window(pane.name, start - start % span, end)

    def query(
        self,
        window: Window,
        grouping: str,
        now: Micros,
        *,
        key: Sequence[str] = (),
        include: Include = Include.LIVE,
    ) -> Answer:
        """Rows of a grouping over a window, merged over panes and partitions.

        `key` keeps the groups whose key columns begin with these values.
        """
        pane = LIVE[window.pane]
        end = window.end + -window.end % pane.length
        origins = include.origins
        tables = [
            table
            for origin in origins
            for start, length in cover(pane.spans, window.start, end)
            for table in self._tables(Node(window.pane, length, start, grouping, origin))
        ]
        rows = _added_up(tables, grouping)
        for column, value in zip(GROUPINGS[grouping].keys, key, strict=False):
            rows = rows.filter(pl.col(column) == value)
        held = not any(self._is_gone(window, grouping, origin, now) for origin in origins)
        coverage = self.watermarks.coverage(
            grouping, window.pane, window.end, now, held=held, caught_up=self.caught_up
        )
        return Answer(window, rows, coverage)

    def _hold(self, key: BlockKey, block: Block, arrived_at: Micros) -> None:
        pane_id = _PaneId(key.pane, key.pane_start, key.grouping, key.imported)
        # Taken out and put back, so that the panes stand in the order in which they were last written.
        pane = self._panes.pop(pane_id, None) or _Pane(block.pane_end)
        self._panes[pane_id] = pane
        by_since = pane.blocks.setdefault((key.partition, key.bucket), {})
        held = by_since.get(block.since)
        if held is not None and (held.offset, held.revision) > (block.offset, block.revision):
            self.counts.outdated += 1
            return
        by_since[block.since] = block
        grown = len(block.packed_rows) - (len(held.packed_rows) if held else -_OVERHEAD)
        pane.size += grown
        self.size += grown
        pane.arrived_at = max(pane.arrived_at, arrived_at)
        self.counts.applied += 1
        self._cache.changed(key.pane, key.pane_start, key.grouping, key.imported)

    def _expire(self, key: BlockKey) -> None:
        pane_id = _PaneId(key.pane, key.pane_start, key.grouping, key.imported)
        self._mark_gone(pane_id, key.pane_start + LIVE[key.pane].length)
        pane = self._panes.get(pane_id)
        dropped = pane.blocks.pop((key.partition, key.bucket), None) if pane else None
        if pane is None or dropped is None:
            return
        freed = sum(len(block.packed_rows) + _OVERHEAD for block in dropped.values())
        pane.size -= freed
        self.size -= freed
        self.counts.expired += len(dropped)
        if not pane.blocks:
            del self._panes[pane_id]
        self._cache.changed(key.pane, key.pane_start, key.grouping, key.imported)

    def _forget(self, pane_id: _PaneId) -> int:
        pane = self._panes.pop(pane_id)
        self.size -= pane.size
        self._mark_gone(pane_id, pane.end)
        self._cache.changed(*pane_id)
        return sum(len(by_since) for by_since in pane.blocks.values())

    def _mark_gone(self, pane_id: _PaneId, end: Micros) -> None:
        kind = (pane_id.pane, GROUPINGS[pane_id.grouping].many_valued, pane_id.imported)
        first, last = self._gone.get(kind, (pane_id.start, end))
        self._gone[kind] = (min(first, pane_id.start), max(last, end))

    def _is_gone(self, window: Window, grouping: str, imported: bool, now: Micros) -> bool:
        """Whether a part of the window may have been dropped (or, live, is too old to have been read)."""
        if not imported and window.start < now - self.limits.of(window.pane, grouping):
            return True
        first, last = self._gone.get((window.pane, GROUPINGS[grouping].many_valued, imported), (0, 0))
        return window.start < last and first < window.end

    def _tables(self, node: Node) -> list[pa.Table]:
        """Tables that add up to the node's rows: a merged one, but for a single pane its blocks."""
        tables = self._unmerged(node)
        if node.length == LIVE[node.pane].length or self._cache.get(node) is not None:
            return tables
        # Merging costs nearly the same for few blocks as for many: hence all below this node at once.
        merged = _added_up(tables, node.grouping).to_arrow().cast(row_schema(GROUPINGS[node.grouping]))
        self._cache.put(node, merged)
        return [merged]

    def _unmerged(self, node: Node) -> list[pa.Table]:
        """Tables that add up to the node's rows, as large as they are to be had without merging."""
        cached = self._cache.get(node)
        if cached is not None:
            return [cached]
        levels = LIVE[node.pane].spans
        depth = levels.index(node.length)
        if depth == 0:
            pane = self._panes.get(_PaneId(node.pane, node.start, node.grouping, node.imported))
            blocks = list(pane.all()) if pane else []
            return [rows for block in blocks if (rows := self._rows(block)) is not None]
        child = levels[depth - 1]
        starts = range(node.start, node.start + node.length, child)
        return [
            table for start in starts for table in self._unmerged(node._replace(length=child, start=start))
        ]

    def _rows(self, block: Block) -> pa.Table | None:
        """The block's rows. One that turns out to be unreadable is refused after all, and said to be gone."""
        try:
            # Not kept in the block, as `block.rows` would be: there is a cache with a limit.
            return read_rows(block.packed_rows, block.key.grouping)
        except SchemaError as error:
            _log.error("a block's rows are unreadable: %s: %s", block.key, error)
            self.counts.refused += 1
            self.counts.expired -= 1  # as which dropping it counts
            self._expire(block.key)
            return None


def _added_up(tables: Sequence[pa.Table], grouping: str) -> pl.DataFrame:
    schema = row_schema(GROUPINGS[grouping])
    # In one chunk: Polars takes a column of hundreds of chunks slowly.
    together = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    return merge([together], GROUPINGS[grouping])
