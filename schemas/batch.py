"""A batch of values, read: the rows that are good, and the refusals of those that are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.errors import Reason

OFFSET = "_offset"
LEAD = 5 * 60 * 1_000_000
"""Microseconds by which an event may claim to have occurred after it arrived."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One value that was refused: `index` in the batch that was read, its Kafka offset, and why."""

    index: int
    offset: int
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Batch:
    """What became of the values that were read; every one is either a row or a refusal."""

    frame: pl.DataFrame
    """The columns asked for and `_offset` (Int64), in the order of the values."""
    indices: npt.NDArray[np.int64]
    """For each row, the index of its value in the batch that was read."""
    refused: list[Refusal]
    """In the order of the values."""

    def refuse(self, rows: npt.NDArray[np.int64], reason: Reason, details: Sequence[str]) -> "Batch":
        """The batch without the rows at these positions of `frame`, which are refused."""
        if len(rows) == 0:
            return self
        offsets = self.frame[OFFSET].to_numpy()
        more = [
            Refusal(int(self.indices[row]), int(offsets[row]), reason, detail)
            for row, detail in zip(rows, details, strict=True)
        ]
        kept = np.ones(self.frame.height, np.bool_)
        kept[rows] = False
        return Batch(
            frame=self.frame.filter(pl.Series(kept)),
            indices=self.indices[kept],
            refused=sorted([*self.refused, *more], key=lambda refusal: refusal.index),
        )

    def refuse_where(self, faults: pl.DataFrame, reason: Reason) -> "Batch":
        """The batch without the rows of which any column of `faults` (Boolean, without nulls, a row for
        each row of `frame`) is true; the first such column's name is the refusal's detail."""
        faulty = faults.select(pl.any_horizontal(pl.all())).to_series()
        if not faulty.any():
            return self
        rows = faulty.arg_true().to_numpy().astype(np.int64)
        found = faults[rows].iter_rows(named=True)
        return self.refuse(rows, reason, [next(what for what, so in row.items() if so) for row in found])


def refuse_future(batch: Batch, arrived_at_us: npt.NDArray[np.int64]) -> Batch:
    """The batch without events that claim to have occurred over 5 minutes after they arrived.

    `arrived_at_us` are the Kafka record timestamps, in microseconds, of all values that were read.
    Needs the column `occurred_at`.
    """
    occurred_at = batch.frame["occurred_at"].cast(pl.Int64).to_numpy()
    arrived_at = arrived_at_us[batch.indices]
    rows = np.flatnonzero(occurred_at > arrived_at + LEAD)
    return batch.refuse(
        rows,
        Reason.IN_THE_FUTURE,
        [
            f"occurred_at is {ahead / 1e6:.1f} s after the record's arrival, "
            f"at most {LEAD // 1_000_000} s are taken: check the sender's clock"
            for ahead in occurred_at[rows] - arrived_at[rows]
        ],
    )
