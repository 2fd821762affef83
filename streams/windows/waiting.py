"""Live events that the panes of seconds have, and the longer panes not yet.

What is written at every step is counted at every step, what is written once a second once a second: the
same counting, of a tenth as many batches ten times as large.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import polars as pl

from schemas.time import Micros
from streams.windows.aggregate import Events
from streams.windows.panes import Pane

_NEVER: Final[Micros] = np.iinfo(np.int64).max


class Waiting:
    """The events of one partition that wait to be counted in `panes`, in the order of their offsets."""

    def __init__(self, panes: Iterable[Pane]) -> None:
        self.closes: Micros = _NEVER
        """The watermark that closes the first of the panes which these events belong to."""
        self._panes = tuple(panes)
        self._events: list[Events] = []
        self._first: Micros = _NEVER
        self._watermark: Micros = 0

    def __len__(self) -> int:
        return sum(map(len, self._events))

    def add(self, events: Events, watermark: Micros) -> None:
        """Add a batch (not empty) that came when the watermark was this."""
        if not self._events:
            self._watermark = watermark
        self._events.append(events)
        first = int(events.times.min())
        if first < self._first:
            self._first = first
            starts = ((pane, int(pane.starts(np.array([first]))[0])) for pane in self._panes)
            self.closes = min((pane.end(start) for pane, start in starts), default=_NEVER)

    def take(self) -> tuple[Events, Micros]:
        """All of them, which wait no longer, and what the watermark was before the first one."""
        events, self._events = self._events, []
        self._first = self.closes = _NEVER
        if len(events) == 1:
            return events[0], self._watermark
        return Events(pl.concat([batch.frame for batch in events])), self._watermark
