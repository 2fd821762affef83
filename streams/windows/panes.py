"""Panes: the spans of event time that windows are made of. All times are microseconds since 1970, UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

Micros = int

SECOND: Final[Micros] = 1_000_000
MINUTE: Final[Micros] = 60 * SECOND
HOUR: Final[Micros] = 60 * MINUTE
DAY: Final[Micros] = 24 * HOUR

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def micros(span: timedelta) -> Micros:
    """A span of time in microseconds."""
    return span // timedelta(microseconds=1)


def micros_of(time: datetime) -> Micros:
    """An aware datetime in microseconds since 1970, UTC."""
    return micros(time - _EPOCH)


@dataclass(frozen=True)
class Pane:
    """One length of pane: how its starts are found, and how long a closed one still takes late events."""

    name: str
    keep: Micros
    length: Micros | None = None
    """Fixed length; None for a calendar day of `zone`."""
    zone: tzinfo = UTC
    live_only: bool = False
    """Imported events have no such panes."""

    def starts(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The start of the pane that each time falls into."""
        if self.length is not None:
            return np.asarray(times - times % self.length)
        if self.zone is UTC:
            return np.asarray(times - times % DAY)
        local = pl.Series(times).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(self.zone))
        return np.asarray(local.dt.truncate("1d").to_physical().to_numpy())

    def end(self, start: Micros) -> Micros:
        """The end (excluded) of the pane that starts at `start`. A calendar day may have 23 or 25 hours."""
        if self.length is not None:
            return start + self.length
        local = (_EPOCH + timedelta(microseconds=start)).astimezone(self.zone)
        midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return micros_of(midnight)

    def ends(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`end` of each start."""
        if self.length is not None:
            return starts + self.length
        unique, inverse = np.unique(starts, return_inverse=True)
        return np.array([self.end(int(s)) for s in unique], dtype=np.int64)[inverse]
