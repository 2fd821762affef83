"""From the records of one partition of `chat.closed` to whole panes: who has said what, and how far.

Pure. Records are taken in the order of their offsets, one after the other, so that it makes no difference
how they were fetched. A heartbeat follows the shares that it speaks for: it alone moves a watermark.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import Reason, RefusedError
from schemas.time import MINUTE, SECOND, Micros, micros_of
from schemas.topics import USAGE, WINDOWS
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.catalogue.measures import LATENCIES
from streams.windows.block import read_rows, row_schema
from streams.windows.merge import merge

ALWAYS: Final[Micros] = -(2**62)
"""Before every pane."""
LENGTHS: Final = {"1s": SECOND, "1m": MINUTE}
"""The panes that rules are judged by."""
_SPANS: Final = {"1s": (SECOND, 10 * SECOND, MINUTE), "1m": (MINUTE, 10 * MINUTE)}
"""Windows are put together from merged spans of these lengths; each divides the next."""

_CODEC: Final = Codec(schema("ClosedPane"))


class Kind(NamedTuple):
    """Panes of one length, of one grouping."""

    grouping: str
    pane: str

    @property
    def table(self) -> str:
        """Whose watermarks close them: `chat.windows` or `chat.usage`."""
        return USAGE.name if self.grouping == "user" else WINDOWS.name

    @property
    def length(self) -> Micros:
        """Of a pane."""
        return LENGTHS[self.pane]


@dataclass(frozen=True)
class ClosedShare:
    """A record of `chat.closed`: a share of a pane, or a heartbeat (`rows` is None)."""

    at: int
    """Its offset in this partition of `chat.closed`."""
    table: str
    partition: int
    """The source partition."""
    partitions: int
    """How many source partitions there are."""
    watermark: Micros
    offset: int
    """Of the source partition: everything up to it is counted."""
    pane: str | None = None
    pane_start: Micros = 0
    pane_end: Micros = 0
    grouping: str | None = None
    rows: bytes | pa.Table | None = None
    """Packed, as in a WindowBlock, or unpacked."""
    since: int = -1
    """The first offset of the source partition that is counted in it; -1: not told."""
    revision: int = 0


def read_share(value: bytes, at: int) -> ClosedShare:
    """A record of `chat.closed`, from its value and its offset.

    Raises `schemas.errors.SchemaError` for values that are no ClosedPane.
    """
    record = _CODEC.decode(value)
    where = (at, record["table"], record["partition"], record["partitions"], micros_of(record["watermark"]))
    if record["pane"] is None or record["rows"] is None:
        return ClosedShare(*where, record["offset"])
    return ClosedShare(
        *where,
        record["offset"],
        record["pane"],
        micros_of(record["pane_start"]),
        micros_of(record["pane_end"]),
        record["grouping"],
        record["rows"],
        record["since"],
        record["revision"],
    )


class Change(NamedTuple):
    """A share that was taken, and the rows of its groups that it replaces; None: there were none."""

    kind: Kind
    pane_end: Micros
    rows: pa.Table
    replaced: pa.Table | None


class Source(NamedTuple):
    """A range of offsets of a source partition, both included."""

    partition: int
    first: int
    last: int


class _Held(NamedTuple):
    at: int
    offset: int
    revision: int
    since: int
    rows: pa.Table


@dataclass
class _Heard:
    """What a source partition has said of one table."""

    watermark: Micros = ALWAYS
    """The greatest of its heartbeats."""
    at: int = -1
    """The offset of the first heartbeat that said so."""
    seen: Micros = ALWAYS
    """The greatest watermark on any of its records."""


@dataclass
class _Panes:
    """The held shares of one kind, by the pane's end and the source partition."""

    memory: Micros
    latencies: tuple[str, ...]
    whole_from: Micros
    restored: bool = False
    """`whole_from` is known from before, whatever this process has missed."""
    by_end: dict[Micros, dict[int, _Held]] = field(default_factory=dict)
    spans: dict[tuple[Micros, Micros], pa.Table] = field(default_factory=dict)
    """Merged rows by start and length."""
    windows: dict[tuple[Micros, Micros], pl.DataFrame] = field(default_factory=dict)
    """Merged rows by start and end, until something changes."""


class Shares:
    """The shares of a partition of `chat.closed`, as far as they are wanted, and the watermarks."""

    def __init__(self) -> None:
        self.partitions = 0
        """How many source partitions there are."""
        self.offset = -1
        """Everything up to this offset of `chat.closed` is taken."""
        self.forgotten = 0
        """Shares that came when what they would have changed was forgotten."""
        self._heard: dict[str, dict[int, _Heard]] = {WINDOWS.name: {}, USAGE.name: {}}
        self._panes: dict[Kind, _Panes] = {}
        self._restored: dict[Kind, Micros] = {}
        self._reading_from = 0
        self._missed: dict[str, Micros] | None = None
        """Of each table, the greatest watermark that a source was first met with; None: nothing is missed."""

    def want(self, wanted: Mapping[Kind, tuple[Micros, Iterable[str]]]) -> None:
        """Hold the panes of these kinds: so long before the next to be judged, with these latencies."""
        for kind in self._panes.keys() - wanted.keys():
            del self._panes[kind]
        for kind, (memory, latencies) in wanted.items():
            columns = tuple(name for name in LATENCIES if name in set(latencies))
            panes = self._panes.get(kind)
            if panes is None:
                panes = self._panes[kind] = self._begun(kind, memory, columns)
            if panes.latencies != columns:
                panes.spans.clear()
                panes.windows.clear()
            panes.memory, panes.latencies = memory, columns

    def _begun(self, kind: Kind, memory: Micros, latencies: tuple[str, ...]) -> _Panes:
        if self.offset < 0:
            return _Panes(memory, latencies, self._restored.get(kind, ALWAYS), kind in self._restored)
        # What came before was not held: as if it had never been told.
        seen = max((heard.seen for heard in self._heard[kind.table].values()), default=ALWAYS)
        return _Panes(memory, latencies, seen)

    def restore(self, whole_from: Mapping[Kind, Micros], reading_from: int) -> None:
        """Reading begins at `reading_from`: from there all is told of panes ending after `whole_from`."""
        self._restored = dict(whole_from)
        self._reading_from = reading_from
        self._panes = {kind: self._begun(kind, p.memory, p.latencies) for kind, p in self._panes.items()}

    def take(self, share: ClosedShare) -> Change | None:
        """Take the next record. What it changes; None for a heartbeat, and for what changes nothing.

        Raises `schemas.errors.RefusedError` when its rows can't be read: then nothing of it is held.
        """
        if self.offset < 0:
            self._begin(share.at)
        self.offset = max(self.offset, share.at)
        sources = self._heard.get(share.table)
        if sources is None:
            return None
        self.partitions = max(self.partitions, share.partitions)
        heard = sources.get(share.partition)
        if heard is None:
            heard = sources[share.partition] = _Heard()
            if self._missed is not None:
                self._missed[share.table] = max(self._missed[share.table], share.watermark)
        heard.seen = max(heard.seen, share.watermark)
        if share.rows is not None:
            return self._hold(share, heard)
        if share.watermark > heard.watermark:
            heard.watermark, heard.at = share.watermark, share.at
        return None

    def _begin(self, at: int) -> None:
        if at == 0:
            return
        self._missed = dict.fromkeys(self._heard, ALWAYS)
        if at > self._reading_from:
            # What was to be read again is gone.
            for panes in self._panes.values():
                panes.restored, panes.whole_from = False, ALWAYS

    def _hold(self, share: ClosedShare, heard: _Heard) -> Change | None:
        kind = Kind(share.grouping or "", share.pane or "")
        panes = self._panes.get(kind)
        if panes is None or share.table != kind.table or share.rows is None:
            return None
        if share.pane_end % kind.length:
            raise RefusedError(Reason.MALFORMED, f"no pane of {kind.pane} ends at {share.pane_end}")
        sources = panes.by_end.get(share.pane_end, {})
        held = sources.get(share.partition)
        if held is not None and (held.offset, held.revision) > (share.offset, share.revision):
            return None
        if held is None and share.pane_end <= min(self.whole_from(kind), heard.watermark):
            self.forgotten += 1
            return None
        rows = share.rows if isinstance(share.rows, pa.Table) else read_rows(share.rows, kind.grouping)
        together = _Held(share.at, share.offset, share.revision, share.since, rows)
        replaced = None
        if held is not None:
            # It may have some of the groups only: those that were corrected, or had not closed in a crash.
            others, replaced = _parted(held.rows, rows, GROUPINGS[kind.grouping])
            together = together._replace(
                at=held.at,
                since=min(held.since, share.since),
                rows=pa.concat_tables([others, rows]),
            )
        panes.by_end.setdefault(share.pane_end, sources)[share.partition] = together
        panes.windows.clear()
        for start, length in [span for span in panes.spans if span[0] < share.pane_end <= sum(span)]:
            del panes.spans[start, length]
        return Change(kind, share.pane_end, rows, replaced)

    def frontier(self, table: str) -> Micros | None:
        """Panes ending up to here are closed in every source partition; None while one is unknown."""
        heard = self._heard[table]
        if not self.partitions or len(heard) < self.partitions:
            return None
        least = min(each.watermark for each in heard.values())
        return least if least > 0 else None

    def lead(self, table: str) -> Micros | None:
        """Panes ending up to here are closed in at least one source partition."""
        most = max((each.watermark for each in self._heard[table].values()), default=0)
        return most if most > 0 else None

    def parts(self, table: str, end: Micros) -> int:
        """In how many source partitions panes ending at `end` are closed."""
        return sum(each.watermark >= end for each in self._heard[table].values())

    def whole_from(self, kind: Kind) -> Micros:
        """Everything is held that was told of panes of this kind ending after this."""
        panes = self._panes[kind]
        if panes.restored or self._missed is None:
            return panes.whole_from
        return max(panes.whole_from, self._missed[kind.table])

    def first_end(self, kind: Kind) -> Micros | None:
        """The end of the earliest pane that is held."""
        return min(self._panes[kind].by_end, default=None)

    def ends(self, kind: Kind, after: Micros, upto: Micros) -> list[Micros]:
        """The ends of those held panes that end after `after`, and not after `upto`, in order."""
        return sorted(end for end in self._panes[kind].by_end if after < end <= upto)

    def window(self, kind: Kind, start: Micros, end: Micros) -> pl.DataFrame:
        """The rows of [start, end), one per group, as `merge` has them, with the latencies wanted."""
        panes = self._panes[kind]
        if (start, end) not in panes.windows:
            tables = [table for span in _cover(kind, start, end) for table in self._tables(kind, *span)]
            panes.windows[start, end] = _merge(kind, panes.latencies, tables)
        return panes.windows[start, end]

    def sources(self, kind: Kind, start: Micros, end: Micros) -> list[Source]:
        """The offsets of the source partitions between which the events of [start, end) are."""
        ranges: dict[int, tuple[int, int]] = {}
        for pane_end, by_source in self._panes[kind].by_end.items():
            if start < pane_end <= end:
                for source, held in by_source.items():
                    first, last = ranges.get(source, (held.since, held.offset))
                    ranges[source] = min(first, held.since), max(last, held.offset)
        return [Source(source, *ranges[source]) for source in sorted(ranges)]

    def _tables(self, kind: Kind, start: Micros, length: Micros) -> Iterator[pa.Table]:
        panes = self._panes[kind]
        if length > kind.length:
            if (start, length) not in panes.spans:
                ends = range(start + kind.length, start + length + 1, kind.length)
                tables = [held.rows for end in ends for held in panes.by_end.get(end, {}).values()]
                merged = _merge(kind, panes.latencies, tables)
                schema_of = row_schema(_narrow(kind, panes.latencies))
                panes.spans[start, length] = merged.to_arrow().cast(schema_of)
            yield panes.spans[start, length]
        else:
            yield from (held.rows for held in panes.by_end.get(start + length, {}).values())

    def release(self, kind: Kind, judged: Micros) -> None:
        """Panes up to `judged` are judged: let go of what no window and no correction needs any more."""
        panes = self._panes[kind]
        bound = judged - panes.memory
        heard = self._heard[kind.table]
        panes.whole_from = max(self.whole_from(kind), bound)
        for end in [end for end in panes.by_end if end <= bound]:
            # A share that its source's watermark has not passed may come again: it has to be known.
            kept = {s: held for s, held in panes.by_end[end].items() if heard[s].watermark < end}
            if kept:
                panes.by_end[end] = kept
            else:
                del panes.by_end[end]
        for span in [span for span in panes.spans if sum(span) <= bound]:
            del panes.spans[span]
        panes.windows.clear()

    def remembers_from(self, kind: Kind, judged: Micros, memory: Micros) -> int:
        """From which offset on to read again, for what is held of panes ending after `judged - memory`."""
        needed = [
            held.at
            for end, by_source in self._panes[kind].by_end.items()
            if end > judged - memory
            for held in by_source.values()
        ]
        heard = [each.at for each in self._heard[kind.table].values() if each.at >= 0]
        return min([self.offset + 1, *needed, *heard])


def _parted(held: pa.Table, rows: pa.Table, grouping: Grouping) -> tuple[pa.Table, pa.Table]:
    """The held rows of groups that have none among `rows`, and of those that have."""
    if not grouping.keys:
        return held.slice(0, 0), held
    again = pc.is_in(_groups(held, grouping), value_set=_groups(rows, grouping))
    return held.filter(pc.invert(again)), held.filter(again)


def _groups(rows: pa.Table, grouping: Grouping) -> pa.Array:
    columns = [rows[key].combine_chunks() for key in grouping.keys]
    return pc.binary_join_element_wise(*columns, "\0")


def _narrow(kind: Kind, latencies: tuple[str, ...]) -> Grouping:
    return replace(GROUPINGS[kind.grouping], latencies=latencies)


def _merge(kind: Kind, latencies: tuple[str, ...], tables: list[pa.Table]) -> pl.DataFrame:
    # In one chunk: Polars takes a column of hundreds of chunks slowly.
    narrow = _narrow(kind, latencies)
    empty = row_schema(narrow).empty_table()
    together = pa.concat_tables([empty, *(table.select(empty.column_names) for table in tables)])
    return merge([together.combine_chunks()], narrow)


def _cover(kind: Kind, start: Micros, end: Micros) -> Iterator[tuple[Micros, Micros]]:
    """(start, length) of the fewest spans that make up [start, end)."""
    while start < end:
        length = next(
            span for span in reversed(_SPANS[kind.pane]) if start % span == 0 and start + span <= end
        )
        yield start, length
        start += length
