"""What comes of holding a rule against a window, in columns: one row for each group that has data in it."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from streams.alerts.lifecycle import Group, Verdict

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """What is held against the threshold, row by row."""

    values: Floats
    """In the unit of the threshold; NaN where there is nothing to compare."""
    notable: Bools | None = None
    """Far enough off to be an alert at all; None: all of them."""
    no_baseline: Bools | None = None
    """There is data, and nothing that it could be held against; None: nothing is needed for it."""
    extra: dict[str, Floats] = field(default_factory=dict)
    """Further figures that an alert states."""


@dataclass(frozen=True)
class Evaluated:
    """One row per group that the rule is about and that has rows in the window."""

    groups: pl.DataFrame
    """The keys."""
    values: Floats
    """What is held against the threshold, in its unit; NaN where there is none."""
    measured: Floats
    """In the metric's unit; NaN where there is no data."""
    requests: npt.NDArray[np.int64]
    violates: Bools
    holds: Bools
    """Neither: nothing is known, and the alert stays as it is; or there is no data."""
    no_data: Bools
    too_few: Bools
    no_baseline: Bools
    at_least: Bools
    """The value is a lower bound."""
    extra: dict[str, Floats] = field(default_factory=dict)
    """Further figures that an alert states."""

    def __len__(self) -> int:
        return len(self.values)

    def group(self, row: int) -> Group:
        """The keys of a row."""
        return self.groups.row(row) if self.groups.width else ()

    def verdict(self, row: int) -> Verdict:
        """What is said of a row's group."""
        if self.violates[row]:
            return Verdict.VIOLATES
        return Verdict.HOLDS if self.holds[row] else Verdict.UNKNOWN

    @cached_property
    def row_of(self) -> dict[Group, int]:
        """The row of each group."""
        if not self.groups.width:
            return dict.fromkeys([()] * len(self), 0)
        columns = [self.groups[name].to_list() for name in self.groups.columns]
        return {group: row for row, group in enumerate(zip(*columns, strict=True))}
