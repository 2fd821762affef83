"""Raw events into rows of `windows`: counted by the code that the stream counts with. Pure."""

from dataclasses import replace
from typing import Final

import polars as pl
import pyarrow as pa

from schemas.time import MINUTE, Micros
from sinks.window_rows import WindowRows
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES, SUMS
from streams.catalogue.panes import ONE_MINUTE
from streams.counting.requests import countable
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import BlockKey
from streams.windows.panes import Pane
from streams.windows.state import BlockState

COLUMNS: Final = (
    "_offset",
    "occurred_at",
    "imported",
    *dict.fromkeys(key for grouping in GROUPINGS.values() for key in grouping.keys),
    "cache_hit",
    *(name for name in SUMS if name.endswith("_tokens")),
    "priced_nano_usd",
    *LATENCIES,
)
"""Those of `events` that are read."""

REBUILT: Final = -1
"""The source partition of rebuilt rows: all of them."""
# The rows of a minute are written once: there is no need to spread its keys over blocks.
_GROUPINGS: Final = tuple(replace(grouping, buckets=1) for grouping in GROUPINGS.values())
_PANE: Final = Pane(ONE_MINUTE.name, keep=0, length=ONE_MINUTE.length)


class Counts:
    """The figures of some minutes."""

    def __init__(self) -> None:
        self._states: dict[BlockKey, BlockState] = {}

    def add(self, raw: pa.Table) -> None:
        """Counts finished requests, in the `COLUMNS` of `events`: each event once, in any order."""
        frame = pl.DataFrame(raw)
        frame = countable(frame, frame["priced_nano_usd"])
        for imported in (False, True):
            events = Events(frame.filter(pl.col("imported") == imported))
            if len(events):
                self._count(events, imported)

    def _count(self, events: Events, imported: bool) -> None:
        for grouping in _GROUPINGS:
            for share in aggregate(events, grouping, _PANE):
                key = BlockKey(REBUILT, imported, _PANE.name, share.pane_start, grouping.name, share.bucket)
                state = self._states.get(key)
                if state is None:
                    state = BlockState(key, grouping, share.pane_start + MINUTE, share.first_offset)
                    self._states[key] = state
                state.add(share, share.first_offset)

    def requests(self) -> dict[Micros, int]:
        """By minute, how many requests were counted."""
        found: dict[Micros, int] = {}
        for key, state in self._states.items():
            if key.grouping == "total":
                counted = state.rows().column("requests").to_pylist()
                found[key.pane_start] = found.get(key.pane_start, 0) + sum(counted)
        return found

    def rows(self, generations: dict[Micros, int]) -> list[WindowRows]:
        """The rows; `generations` says by minute what tells them from the rows of other rebuilds."""
        return [
            WindowRows(
                key,
                since=generations[key.pane_start],
                offset=0,
                revision=0,
                version=generations[key.pane_start],
                closed=True,
                watermark=state.pane_end,
                rows=pa.Table.from_batches([state.rows()]),
            )
            for key, state in self._states.items()
        ]
