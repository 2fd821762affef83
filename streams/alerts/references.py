"""The references that a rule's values are held against, by slots of time, as far as history has answered.

The reference of a slot is worked out from history elsewhere; here it is kept and looked up. A slot that
nobody has answered for is no baseline, and so is a group without a row in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from schemas.time import MINUTE, Micros

AHEAD: Final[Micros] = 15 * MINUTE
"""How far ahead of what is judged references are asked for."""
FIGURES: Final = {"mean": pl.Float64, "std": pl.Float64, "samples": pl.Int64}
"""What is known of a group in a slot."""
_KEEP: Final[Micros] = 15 * MINUTE
"""How long a slot is kept after its time, for corrections."""


def slot_at(end: Micros, length: Micros) -> Micros:
    """The start of the slot, of this length, whose reference a window is held against that ends at `end`."""
    return (end - 1) - (end - 1) % length


@dataclass
class References:
    """The references of one rule, in slots of one length."""

    _slots: dict[Micros, pl.DataFrame] = field(default_factory=dict)

    def add(
        self, keys: Sequence[str], length: Micros, start: Micros, until: Micros, frame: pl.DataFrame
    ) -> None:
        """Take the references of the slots from `start` to `until` (excluded).

        `frame` has the keys, `slot_start` (Int64, microseconds), and FIGURES: `mean` and `std` in the
        metric's unit (std may be null), and `samples`. A group without a row has no baseline there.
        """
        columns = [
            *(pl.col(key).cast(pl.String) for key in keys),
            *(pl.col(name).cast(type_) for name, type_ in FIGURES.items()),
        ]
        for slot in range(start - start % length, until, length):
            self._slots[slot] = frame.filter(pl.col("slot_start") == slot).select(columns)

    def of(self, end: Micros, length: Micros) -> pl.DataFrame | None:
        """What a window that ends at `end` is held against: keys, mean, std, samples. None: not known."""
        return self._slots.get(slot_at(end, length))

    def forget(self, judged: Micros) -> None:
        """Let go of slots that are over."""
        for slot in [slot for slot in self._slots if slot < judged - _KEEP]:
            del self._slots[slot]

    def missing(self, judged: Micros, length: Micros) -> tuple[Micros, Micros] | None:
        """From which slot to which (excluded) references are to be asked for, after `judged`; None: none."""
        first = slot_at(judged + 1, length)
        wanted = [slot for slot in range(first, first + AHEAD, length) if slot not in self._slots]
        return (wanted[0], wanted[-1] + length) if wanted else None
