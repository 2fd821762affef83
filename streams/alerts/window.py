"""What a rule is held against: the window that ends with a pane, and the pane itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import polars as pl

from schemas.time import Micros
from streams.alerts.closed_share import Source


@dataclass(frozen=True)
class Window:
    """The rows of a window, and how much of the traffic they are of."""

    start: Micros
    end: Micros
    rows: pl.DataFrame
    """One per group, as `streams.windows.merge.merge` has them."""
    parts: int
    """Source partitions of which the window's last pane is closed."""
    parts_expected: int
    whole: bool
    """No earlier pane of it is missed either."""
    find_sources: Callable[[], Sequence[Source]] = tuple

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The offsets between which its events are."""
        return tuple(self.find_sources())

    @property
    def complete(self) -> bool:
        """It has everything that was said of it."""
        return self.whole and self.parts >= self.parts_expected


@dataclass(frozen=True)
class JudgedPane:
    """A pane that has closed, as one rule is judged by it."""

    window: Window
    """The window of the rule's length that ends with it."""
    whole_from: Micros
    """All panes of the series that end after this are held; `pane_series.ALWAYS`: there were none before."""
    find_latest: Callable[[], pl.DataFrame]

    @cached_property
    def latest(self) -> pl.DataFrame:
        """The rows of the pane alone."""
        return self.find_latest()


class HeldPanes(Protocol):
    """The panes that are held of a rule's series."""

    def ending_at(self, end: Micros) -> JudgedPane:
        """The pane that ends then, with the window that ends with it."""
        ...

    def ends(self, after: Micros, upto: Micros) -> list[Micros]:
        """The ends of the panes that have rows and end after `after`, up to `upto`, in order."""
        ...
