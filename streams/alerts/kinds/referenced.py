"""Rules that compare a window with earlier ones: what they ask history for, and how they use answers."""

from abc import abstractmethod
from collections.abc import Iterable
from datetime import datetime, timedelta, tzinfo
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.time import DAY, SECOND, Micros, micros_of
from streams.alerts.kinds.comparing import ComparingRule
from streams.alerts.kinds.comparison import Comparison, Evaluated, Floats
from streams.alerts.kinds.evaluation import evaluate
from streams.alerts.needs import Need
from streams.alerts.references import FIGURES, References, slot_at
from streams.alerts.state import RuleState
from streams.alerts.window import Window


class ReferencedRule(ComparingRule):
    """A rule that holds a value against a reference, which is worked out from earlier windows."""

    slot: ClassVar[Micros]
    """How long one reference holds."""
    samples: ClassVar[Literal["windows", "requests"]]
    """What counts as samples of a reference: the earlier windows that have `minimum_requests`; or the
    requests of the one earlier window."""

    @property
    @abstractmethod
    def stride(self) -> Micros:
        """How far apart the earlier windows end that a reference is made of."""

    @abstractmethod
    def earlier(self, slot: Micros, zone: tzinfo) -> Iterable[tuple[Micros, Micros]]:
        """Where the earlier windows end whose reference is that of the slot: spans, first and last included.

        Whole days earlier is the same time by the clock of `zone`.
        """

    def needs(self, state: RuleState, reached: Micros) -> Need | None:
        """The references of the next slots."""
        missing = state.references.missing(reached, self.slot)
        return None if missing is None else Need("reference", *missing)

    def learn(self, state: RuleState, need: Need, frame: pl.DataFrame) -> None:
        """Take references."""
        if need.what == "reference":
            state.references.add(self.keys, self.slot, need.start, need.until, frame)

    def reference(self, references: References, end: Micros) -> pl.DataFrame | None:
        """That of the slot in which the window ends."""
        references.forget(end)
        return references.of(end, self.slot)

    def slot_of(self, end: Micros) -> Micros:
        """The start of the slot whose reference a window is held against that ends at `end`."""
        return slot_at(end, self.slot)

    def is_known(self, reference: pl.DataFrame | None) -> bool:
        """Whether history has answered."""
        return reference is not None

    def evaluate_samples(
        self, frame: pl.DataFrame, references: References
    ) -> list[tuple[Evaluated, int] | None]:
        """Each sample is held against the reference of its own time."""
        found: list[tuple[Evaluated, int] | None] = []
        for row, at in enumerate(frame["at"].to_list()):
            one = Window(at - self.window, at, frame[row : row + 1], 1, 1, whole=True)
            found.append((evaluate(self, one, references.of(at, self.slot)), 0))
            references.forget(at)
        return found

    def compare(self, rows: pl.DataFrame, measured: Floats, reference: pl.DataFrame | None) -> Comparison:
        """How far the values are off their references; without one there is nothing to compare."""
        if reference is None:
            return Comparison(np.full(len(measured), np.nan), no_baseline=~np.isnan(measured))
        if self.keys:
            joined = rows.select(self.keys).join(reference, on=self.keys, how="left", maintain_order="left")
        else:
            joined = reference.head(1) if reference.height else _nothing(1)
            joined = joined if len(measured) else joined.clear()
        means, stds = (joined[name].fill_null(np.nan).to_numpy() for name in ("mean", "std"))
        return self.deviation(measured, means, stds, joined["samples"].fill_null(0).to_numpy())

    @abstractmethod
    def deviation(
        self, measured: Floats, means: Floats, stds: Floats, samples: npt.NDArray[np.int64]
    ) -> Comparison:
        """How far each value is off its reference: mean and std NaN, and samples 0, where there is none."""


def earlier(time: Micros, by: Micros, zone: tzinfo) -> Micros:
    """So much before: whole days by the clock of `zone`, anything else by the hour."""
    if by % DAY:
        return time - by
    local = datetime.fromtimestamp(time // SECOND, zone) - timedelta(days=by // DAY)
    return micros_of(local) + time % SECOND


def _nothing(rows: int) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(name, [None] * rows, type_) for name, type_ in FIGURES.items()})
