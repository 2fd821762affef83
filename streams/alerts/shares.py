"""From records of one partition of `chat.closed` to whole panes: what is held, and how far it reaches.

Pure. Records are taken in the order of their offsets, one after the other, so that it makes no difference
how they were fetched. A heartbeat follows the shares that it speaks for: it alone moves a watermark.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl
import pyarrow as pa

from schemas.errors import Reason, RefusedError
from schemas.time import Micros
from streams.alerts.closed_share import ClosedShare, Source
from streams.alerts.held_panes import PaneStore, ordered
from streams.alerts.pane_series import ALWAYS, PaneSeries
from streams.alerts.watermarks import SourceWatermark, Watermarks
from streams.windows.block import read_rows


class PaneChange(NamedTuple):
    """A share that was taken, and the rows of its groups that it replaces; None: there were none."""

    series: PaneSeries
    pane_end: Micros
    rows: pa.Table
    replaced: pa.Table | None


class Shares:
    """The shares of a partition of `chat.closed`, as far as they are wanted, and the watermarks."""

    def __init__(self) -> None:
        self.offset = -1
        """Everything up to this offset of `chat.closed` is taken."""
        self.forgotten = 0
        """Shares that came when what they would have changed was forgotten."""
        self.watermarks = Watermarks()
        self._panes: dict[PaneSeries, PaneStore] = {}
        self._restored: dict[PaneSeries, Micros] = {}
        self._reading_from = 0
        self._missed: dict[str, Micros] | None = None
        """Of each table, the greatest watermark that a source was first met with; None: nothing is missed."""

    @property
    def partitions(self) -> int:
        """How many source partitions there are."""
        return self.watermarks.partitions

    def want(self, wanted: Mapping[PaneSeries, tuple[Micros, Iterable[str]]]) -> None:
        """Hold the panes of these series: so long before the next to be judged, with these latencies."""
        for series in self._panes.keys() - wanted.keys():
            del self._panes[series]
        for series, (memory, latencies) in wanted.items():
            columns = ordered(set(latencies))
            if series not in self._panes:
                self._panes[series] = self._new_store(series, memory, columns)
            self._panes[series].want(memory, columns)

    def _new_store(self, series: PaneSeries, memory: Micros, latencies: tuple[str, ...]) -> PaneStore:
        if self.offset < 0:
            restored = series in self._restored
            return PaneStore(series, memory, latencies, self._restored.get(series, ALWAYS), restored)
        # What came before was not held: as if it had never been said.
        return PaneStore(series, memory, latencies, self.watermarks.greatest_seen(series.table))

    def restore(self, whole_from: Mapping[PaneSeries, Micros], reading_from: int) -> None:
        """Reading begins at `reading_from`: from there on is all of panes ending after `whole_from`."""
        self._restored = dict(whole_from)
        self._reading_from = reading_from
        self._panes = {
            series: self._new_store(series, panes.memory, panes.latencies)
            for series, panes in self._panes.items()
        }

    def take(self, share: ClosedShare) -> PaneChange | None:
        """Take the next record. What it changes; None for a heartbeat, and for what changes nothing.

        Raises `schemas.errors.RefusedError` when its rows can't be read: then nothing of it is held.
        """
        if self.offset < 0:
            self._begin(share.at)
        self.offset = max(self.offset, share.at)
        if share.table not in self.watermarks.tables:
            return None
        self.watermarks.partitions = max(self.partitions, share.partitions)
        source, is_new = self.watermarks.of(share.table, share.partition)
        if is_new and self._missed is not None:
            self._missed[share.table] = max(self._missed[share.table], share.watermark)
        source.seen = max(source.seen, share.watermark)
        if share.rows is not None:
            return self._hold(share, source)
        if share.watermark > source.watermark:
            source.watermark, source.at = share.watermark, share.at
        return None

    def _begin(self, at: int) -> None:
        if at == 0:
            return
        self._missed = dict.fromkeys(self.watermarks.tables, ALWAYS)
        if at > self._reading_from:
            # What was to be read again is gone.
            for panes in self._panes.values():
                panes.restored, panes.whole_from = False, ALWAYS

    def _hold(self, share: ClosedShare, source: SourceWatermark) -> PaneChange | None:
        series = PaneSeries(share.grouping or "", share.pane or "")
        panes = self._panes.get(series)
        if panes is None or share.table != series.table or share.rows is None:
            return None
        if share.pane_end % series.length:
            raise RefusedError(Reason.MALFORMED, f"no pane of {series.pane} ends at {share.pane_end}")
        if panes.is_older(share):
            return None
        if not panes.holds(share) and share.pane_end <= min(self.whole_from(series), source.watermark):
            self.forgotten += 1
            return None
        rows = share.rows if isinstance(share.rows, pa.Table) else read_rows(share.rows, series.grouping)
        return PaneChange(series, share.pane_end, rows, panes.put(share, rows))

    def whole_from(self, series: PaneSeries) -> Micros:
        """Everything is held that was said of panes of this series ending after this."""
        panes = self._panes[series]
        if panes.restored or self._missed is None:
            return panes.whole_from
        return max(panes.whole_from, self._missed[series.table])

    def first_end(self, series: PaneSeries) -> Micros | None:
        """The end of the earliest pane that is held."""
        return self._panes[series].first_end()

    def ends(self, series: PaneSeries, after: Micros, upto: Micros) -> list[Micros]:
        """The ends of those held panes that end after `after`, and not after `upto`, in order."""
        return self._panes[series].ends(after, upto)

    def window(self, series: PaneSeries, start: Micros, end: Micros) -> pl.DataFrame:
        """The rows of [start, end), one per group, as `merge` has them, with the latencies wanted."""
        return self._panes[series].window(start, end)

    def sources(self, series: PaneSeries, start: Micros, end: Micros) -> list[Source]:
        """The offsets of the source partitions between which the events of [start, end) are."""
        return self._panes[series].sources(start, end)

    def release(self, series: PaneSeries, judged: Micros) -> None:
        """Panes up to `judged` are judged: let go of what no window and no correction needs any more."""
        panes = self._panes[series]
        bound = judged - panes.memory
        panes.whole_from = max(self.whole_from(series), bound)
        closed = self.watermarks.has_closed
        panes.release(bound, lambda partition, end: not closed(series.table, partition, end))

    def remembers_from(self, series: PaneSeries, judged: Micros, memory: Micros) -> int:
        """From which offset on to read again, for what is held of panes ending after `judged - memory`."""
        needed = self._panes[series].offsets(after=judged - memory)
        return min([self.offset + 1, *needed, *self.watermarks.offsets(series.table)])
