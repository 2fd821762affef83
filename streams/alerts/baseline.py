"""What a value is usual to be: references from history, by slots of time, that rules are held against.

The reference of a slot is worked out from history elsewhere; here it is kept and looked up. A slot that
nobody has answered for is no baseline, and so is a group without a row in it.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.time import MINUTE, Micros
from streams.alerts.rule import BaselineRule, ChangeRule

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

AHEAD: Final[Micros] = 15 * MINUTE
"""How far ahead of what is judged references are asked for."""
MOST_DEVIATIONS: Final = 1_000.0
"""Further from the mean it makes no difference; so far is a value off where nothing ever varied."""
_KEEP: Final[Micros] = 15 * MINUTE
"""How long a slot is kept after its time, for corrections."""
_FIGURES: Final = {"mean": pl.Float64, "std": pl.Float64, "samples": pl.Int64}


def slot_length(rule: BaselineRule | ChangeRule) -> Micros:
    """How long a reference holds: that of a baseline five minutes, that of a change one.

    The reference of a slot is, for a `change`, the value of the window that ends `against` before the slot's
    end; for a `baseline`, mean and standard deviation over windows of the rule's length that end, so many
    seasons earlier, from `around` before the slot's start to `around` after its end.
    """
    return 5 * MINUTE if rule.kind == "baseline" else MINUTE


def slot_of(rule: BaselineRule | ChangeRule, end: Micros) -> Micros:
    """The start of the slot whose reference a window is held against that ends at `end`."""
    length = slot_length(rule)
    return (end - 1) - (end - 1) % length


@dataclass
class References:
    """The references of one rule, as far as they are known."""

    _slots: dict[Micros, pl.DataFrame] = field(default_factory=dict)

    def add(self, rule: BaselineRule | ChangeRule, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """Take the references of the slots from `start` to `until` (excluded).

        `frame` has the rule's keys, `slot_start` (Int64, microseconds), `mean` and `std` (Float64, in the
        metric's unit; std is null in a change), and `samples` (Int64: from how many windows; in a change, how
        many requests the earlier window counted). A group without a row has no baseline there.
        """
        columns = [
            *(pl.col(key).cast(pl.String) for key in rule.keys),
            *(pl.col(name).cast(kind) for name, kind in _FIGURES.items()),
        ]
        for slot in range(start - start % slot_length(rule), until, slot_length(rule)):
            self._slots[slot] = frame.filter(pl.col("slot_start") == slot).select(columns)

    def of(self, rule: BaselineRule | ChangeRule, end: Micros) -> pl.DataFrame | None:
        """What a window that ends at `end` is held against: keys, mean, std, samples. None: not known."""
        return self._slots.get(slot_of(rule, end))

    def forget(self, judged: Micros) -> None:
        """Let go of slots that are over."""
        for slot in [slot for slot in self._slots if slot < judged - _KEEP]:
            del self._slots[slot]

    def missing(self, rule: BaselineRule | ChangeRule, judged: Micros) -> tuple[Micros, Micros] | None:
        """From which slot to which (excluded) references are to be asked for, after `judged`; None: none."""
        length = slot_length(rule)
        first = slot_of(rule, judged + 1)
        wanted = [slot for slot in range(first, first + AHEAD, length) if slot not in self._slots]
        return (wanted[0], wanted[-1] + length) if wanted else None


@dataclass(frozen=True)
class Deviation:
    """Values held against their references, row by row."""

    values: Floats
    """In the unit of the rule's threshold: deviations, or a share; NaN without a baseline."""
    notable: Bools
    """Far enough off to be told of."""
    has_baseline: Bools
    means: Floats
    stds: Floats
    samples: npt.NDArray[np.int64]


def deviation(
    rule: BaselineRule | ChangeRule, groups: pl.DataFrame, measured: Floats, reference: pl.DataFrame
) -> Deviation:
    """How far `measured`, one value for each row of `groups` (the rule's keys), is off its reference."""
    if rule.keys:
        joined = groups.join(reference, on=rule.keys, how="left", maintain_order="left")
    else:
        joined = reference.head(1) if reference.height else _nothing(1)
        joined = joined if len(measured) else joined.clear()
    means, stds = (joined[name].fill_null(np.nan).to_numpy() for name in ("mean", "std"))
    samples = joined["samples"].fill_null(0).to_numpy()
    off = measured - means
    with np.errstate(divide="ignore", invalid="ignore"):
        if rule.kind == "baseline":
            known = (samples >= rule.minimum_samples) & ~np.isnan(means) & ~np.isnan(stds)
            values = np.where(off == 0, 0.0, off / stds)
            least = np.maximum(rule.minimum_change * np.abs(means), rule.minimum_difference)
            notable = np.abs(off) >= least
        else:
            known = (samples >= rule.minimum_requests) & (means != 0) & ~np.isnan(means)
            values = off / means
            notable = np.ones(len(measured), dtype=np.bool_)
    values = np.clip(values, -MOST_DEVIATIONS, MOST_DEVIATIONS) if rule.kind == "baseline" else values
    return Deviation(
        np.where(known, values, np.nan), notable, known & ~np.isnan(measured), means, stds, samples
    )


def _nothing(rows: int) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series(name, [None] * rows, kind) for name, kind in _FIGURES.items()})
