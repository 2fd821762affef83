"""The panes of one series that are held: shares by pane and source partition, and merged windows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.time import MINUTE, SECOND, Micros
from streams.alerts.closed_share import ClosedShare, Source
from streams.alerts.pane_series import PaneSeries
from streams.windows.block import row_schema
from streams.windows.measures import GROUPINGS, LATENCIES, Grouping
from streams.windows.merge import merge

_SPANS: Final = {"1s": (SECOND, 10 * SECOND, MINUTE), "1m": (MINUTE, 10 * MINUTE)}
"""Windows are put together from merged spans of these lengths; each divides the next."""


class _HeldShare(NamedTuple):
    at: int
    offset: int
    revision: int
    since: int
    rows: pa.Table


@dataclass
class PaneStore:
    """The held shares of one series, by the pane's end and the source partition."""

    series: PaneSeries
    memory: Micros
    """How long before the next pane to be judged they are held."""
    latencies: tuple[str, ...]
    """Those that are merged, too."""
    whole_from: Micros
    """Everything is held that was said of panes ending after this."""
    restored: bool = False
    """`whole_from` is known from before, whatever this process has missed."""
    _by_end: dict[Micros, dict[int, _HeldShare]] = field(default_factory=dict)
    _spans: dict[tuple[Micros, Micros], pa.Table] = field(default_factory=dict)
    """Merged rows by start and length."""
    _windows: dict[tuple[Micros, Micros], pl.DataFrame] = field(default_factory=dict)
    """Merged rows by start and end, until something changes."""

    def want(self, memory: Micros, latencies: tuple[str, ...]) -> None:
        """Hold panes for so long, and merge these latencies."""
        if self.latencies != latencies:
            self._spans.clear()
            self._windows.clear()
        self.memory, self.latencies = memory, latencies

    def is_older(self, share: ClosedShare) -> bool:
        """Whether a later version of this share is held."""
        held = self._by_end.get(share.pane_end, {}).get(share.partition)
        return held is not None and (held.offset, held.revision) > (share.offset, share.revision)

    def holds(self, share: ClosedShare) -> bool:
        """Whether some version of this share is held."""
        return share.partition in self._by_end.get(share.pane_end, {})

    def put(self, share: ClosedShare, rows: pa.Table) -> pa.Table | None:
        """Hold a share. The rows of its groups that were held before; None: there were none of the share."""
        sources = self._by_end.setdefault(share.pane_end, {})
        held = sources.get(share.partition)
        replaced = None
        merged = _HeldShare(share.at, share.offset, share.revision, share.since, rows)
        if held is not None:
            # It may have some of the groups only: those that were corrected, or had not closed in a crash.
            others, replaced = _split_by_groups(held.rows, rows, GROUPINGS[self.series.grouping])
            merged = merged._replace(
                at=held.at,
                since=min(held.since, share.since),
                rows=pa.concat_tables([others, rows]),
            )
        sources[share.partition] = merged
        self._windows.clear()
        for start, length in [span for span in self._spans if span[0] < share.pane_end <= sum(span)]:
            del self._spans[start, length]
        return replaced

    def first_end(self) -> Micros | None:
        """The end of the earliest pane that is held."""
        return min(self._by_end, default=None)

    def ends(self, after: Micros, upto: Micros) -> list[Micros]:
        """The ends of those held panes that end after `after`, and not after `upto`, in order."""
        return sorted(end for end in self._by_end if after < end <= upto)

    def window(self, start: Micros, end: Micros) -> pl.DataFrame:
        """The rows of [start, end), one per group, as `merge` has them, with the latencies wanted."""
        if (start, end) not in self._windows:
            tables = [table for span in _cover(self.series, start, end) for table in self._tables(*span)]
            self._windows[start, end] = self._merge(tables)
        return self._windows[start, end]

    def sources(self, start: Micros, end: Micros) -> list[Source]:
        """The offsets of the source partitions between which the events of [start, end) are."""
        ranges: dict[int, tuple[int, int]] = {}
        for pane_end, by_source in self._by_end.items():
            if start < pane_end <= end:
                for source, held in by_source.items():
                    first, last = ranges.get(source, (held.since, held.offset))
                    ranges[source] = min(first, held.since), max(last, held.offset)
        return [Source(source, *ranges[source]) for source in sorted(ranges)]

    def release(self, bound: Micros, may_come_again: Callable[[int, Micros], bool]) -> None:
        """Let go of panes ending up to `bound`, but for shares that may come again: they have to be known.

        `may_come_again` says so of a source partition and a pane's end.
        """
        for end in [end for end in self._by_end if end <= bound]:
            kept = {s: held for s, held in self._by_end[end].items() if may_come_again(s, end)}
            if kept:
                self._by_end[end] = kept
            else:
                del self._by_end[end]
        for span in [span for span in self._spans if sum(span) <= bound]:
            del self._spans[span]
        self._windows.clear()

    def offsets(self, after: Micros) -> list[int]:
        """The offsets of `chat.closed` from which the shares of panes ending after `after` can be read."""
        return [held.at for end, by in self._by_end.items() if end > after for held in by.values()]

    def _tables(self, start: Micros, length: Micros) -> Iterator[pa.Table]:
        pane = self.series.length
        if length > pane:
            if (start, length) not in self._spans:
                ends = range(start + pane, start + length + 1, pane)
                tables = [held.rows for end in ends for held in self._by_end.get(end, {}).values()]
                self._spans[start, length] = self._merge(tables).to_arrow().cast(row_schema(self._grouping))
            yield self._spans[start, length]
        else:
            yield from (held.rows for held in self._by_end.get(start + length, {}).values())

    def _merge(self, tables: list[pa.Table]) -> pl.DataFrame:
        # In one chunk: Polars takes a column of hundreds of chunks slowly.
        grouping = self._grouping
        empty = row_schema(grouping).empty_table()
        joined = pa.concat_tables([empty, *(table.select(empty.column_names) for table in tables)])
        return merge([joined.combine_chunks()], grouping)

    @property
    def _grouping(self) -> Grouping:
        """The grouping, with the latencies wanted alone."""
        return replace(GROUPINGS[self.series.grouping], latencies=self.latencies)


def ordered(latencies: set[str]) -> tuple[str, ...]:
    """Names of latencies in the order of the columns."""
    return tuple(name for name in LATENCIES if name in latencies)


def _split_by_groups(held: pa.Table, rows: pa.Table, grouping: Grouping) -> tuple[pa.Table, pa.Table]:
    """The held rows of groups that have none among `rows`, and of those that have."""
    if not grouping.keys:
        return held.slice(0, 0), held
    again = pc.is_in(_groups(held, grouping), value_set=_groups(rows, grouping))
    return held.filter(pc.invert(again)), held.filter(again)


def _groups(rows: pa.Table, grouping: Grouping) -> pa.Array:
    columns = [rows[key].combine_chunks() for key in grouping.keys]
    return pc.binary_join_element_wise(*columns, "\0")


def _cover(series: PaneSeries, start: Micros, end: Micros) -> Iterator[tuple[Micros, Micros]]:
    """(start, length) of the fewest spans that make up [start, end)."""
    while start < end:
        length = next(
            span for span in reversed(_SPANS[series.pane]) if start % span == 0 and start + span <= end
        )
        yield start, length
        start += length
