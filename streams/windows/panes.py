"""Panes: the spans of event time that windows are made of. All times are microseconds since 1970, UTC."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from schemas.time import DAY, EPOCH, SECOND, Micros, micros, micros_of

_FURTHEST: Final = timedelta(hours=26)
"""More than any zone's clock was ever put forward at once."""
_MANY_DAYS: Final = 400


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
    corrected_for: Micros = 0
    """How long after its end corrections of it are announced: whoever judges it remembers it so long."""

    def starts(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The start of the pane that each time falls into."""
        if self.length is not None:
            return np.asarray(times - times % self.length)
        if self.zone is UTC or not times.size:
            return np.asarray(times - times % DAY)
        starts = np.unique([midnight(day, self.zone) for day in _days_around(times)])
        return np.asarray(starts[np.searchsorted(starts, times, side="right") - 1])

    def end(self, start: Micros) -> Micros:
        """The end (excluded) of the pane that starts at `start`. A calendar day may have 23 or 25 hours."""
        if self.length is not None:
            return start + self.length
        day = (local_time(start, self.zone).replace(tzinfo=UTC) - EPOCH).days
        while (end := midnight(day, self.zone)) <= start:
            day += 1
        return end

    def ends(self, starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`end` of each start."""
        if self.length is not None:
            return starts + self.length
        unique, inverse = np.unique(starts, return_inverse=True)
        return np.array([self.end(int(s)) for s in unique], dtype=np.int64)[inverse]


def _days_around(times: npt.NDArray[np.int64]) -> list[int]:
    """Calendar days, counted from 1970-01-01, among which each time's is in any zone."""
    first, last = (int(time) // DAY for time in (times.min(), times.max()))
    if last - first < _MANY_DAYS:
        return list(range(first - 1, last + 2))
    days = np.unique(times // DAY)
    around: list[int] = np.unique((days[:, np.newaxis] + np.arange(-1, 2)).ravel()).tolist()
    return around


def local_time(time: Micros, zone: tzinfo) -> datetime:
    """What the zone's clock and calendar show."""
    return (EPOCH + timedelta(microseconds=time)).astimezone(zone)


@lru_cache(maxsize=100_000)
def midnight(day: int, zone: tzinfo) -> Micros:
    """When the calendar day `day` (counted from 1970-01-01) begins: the first moment at which the zone's
    calendar shows that day, or a later one.

    There may be no midnight, where the clock is put forward over it, or two, where it is put back; even
    no such day, where a country moved across the date line.
    """
    naive = EPOCH.replace(tzinfo=None) + timedelta(days=day)
    midnight = naive.replace(tzinfo=zone)
    found = micros_of(midnight)
    if local_time(found, zone).replace(tzinfo=None) == naive:
        return found
    # The clock jumped over it: the jump lies between these, to the second.
    before, after = (found - micros(_FURTHEST)) // SECOND, found // SECOND
    while after - before > 1:
        middle = (before + after) // 2
        if local_time(middle * SECOND, zone).date() < naive.date():
            before = middle
        else:
            after = middle
    return after * SECOND
