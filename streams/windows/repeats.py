"""Which events of a partition are repeats: the same event, that a producer has sent again.

The ids of live events are remembered by the minute in which the event occurred, and a minute is forgotten
when it lies beyond the horizon. What the horizon is measured from moves with the events alone, and an
event whose clock is ahead moves it no further than to its arrival. So the verdict on an event depends on
what lies before it in the log, and on nothing else: batches and restarts make no difference.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.batch import OFFSET
from schemas.time import MINUTE, Micros
from streams.windows.columns import integers

HORIZON: Final = 5
"""Minutes that are remembered before the present one."""
ARRIVED: Final = "_arrived"
"""The column of the times of arrival, in microseconds since 1970."""

Ids = npt.NDArray[np.uint64]

_SEED: Final = 0x5EED
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_FEWEST: Final = 1 << 10
_EMPTY: Final = np.uint64(0)


class IdSet:
    """A set of 64-bit ids: open addressing in one array, a batch at a time."""

    def __init__(self) -> None:
        self._slots = np.zeros(_FEWEST, np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory that the ids take."""
        return self._slots.nbytes

    def add(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Add ids, none of them 0; which of them were new. Of equal ones in `ids` the first is."""
        self._make_room(len(ids))
        new = _insert(self._slots, ids)
        self._count += int(np.count_nonzero(new))
        return new

    def _make_room(self, more: int) -> None:
        """Keep half of the slots empty, so that searches stay short."""
        size = len(self._slots)
        while 2 * (self._count + more) > size:
            size *= 2
        if size > len(self._slots):
            slots = np.zeros(size, np.uint64)
            _insert(slots, self._slots[self._slots != _EMPTY])
            self._slots = slots


def _insert(slots: Ids, ids: Ids) -> npt.NDArray[np.bool_]:
    """Put each id into the first slot from its own on that is empty; all of them step by step together."""
    new = np.zeros(len(ids), np.bool_)
    last = np.intp(len(slots) - 1)
    at = ((ids * _SPREAD) >> np.uint64(64 - int(last).bit_length())).astype(np.intp)
    pending = np.arange(len(ids))
    while pending.size:
        found = slots[at]
        free = np.flatnonzero(found == _EMPTY)
        if free.size:
            # Of those that meet at an empty slot the first in line takes it: the last one to be written.
            places, claimants = at[free], pending[free]
            slots[places[::-1]] = (claimants + 1).astype(np.uint64)[::-1]
            winners = slots[places] == (claimants + 1).astype(np.uint64)
            taken, owners = places[winners], claimants[winners]
            slots[taken] = ids[owners]
            new[owners] = True
            found = slots[at]
        going_on = np.flatnonzero(found != ids[pending])
        pending, at = pending[going_on], (at[going_on] + 1) & last
    return new


class Repeats:
    """The memory of one partition."""

    def __init__(self, most: int) -> None:
        """Remember at most about `most` ids: more than that, and the oldest minute is forgotten early."""
        self.next_offset = 0
        """Every event before this offset is judged."""
        self.forgotten_early = 0
        """Ids that had to go before their time."""
        self._most = most
        self._reached: Micros = 0
        self._minutes: dict[int, IdSet] = {}
        self._first_offsets: dict[int, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._minutes.values()))

    @property
    def nbytes(self) -> int:
        """Memory that the ids take."""
        return sum(ids.nbytes for ids in self._minutes.values())

    @property
    def since(self) -> int:
        """The offset of the first event that is remembered: reading again from there brings all back."""
        return min(self._first_offsets.values(), default=self.next_offset)

    def first_time(self, frame: pl.DataFrame, through: int) -> npt.NDArray[np.bool_] | None:
        """Which live events of a batch are no repeats, as far as is remembered; None: all of them.

        `frame` has `event_id`, `occurred_at`, `_arrived` and `_offset`, ascending and from `next_offset`
        on; the batch reaches to offset `through`. Every event is judged once, in the order of the log.
        """
        self.next_offset = max(self.next_offset, through + 1)
        if frame.height == 0:
            return None
        times = integers(frame["occurred_at"])[0]
        minutes = times // MINUTE
        reached = np.minimum(times, integers(frame[ARRIVED])[0])
        before = np.maximum.accumulate(np.concatenate(([self._reached], reached[:-1])))
        within = minutes >= before // MINUTE - HORIZON
        self._reached = max(self._reached, int(before[-1]), int(reached[-1]))
        ids, offsets = _identities(frame["event_id"], times), integers(frame[OFFSET])[0]

        first = np.ones(frame.height, np.bool_)
        for minute in np.unique(minutes[within]).tolist():
            at = np.flatnonzero(within & (minutes == minute))
            remembered = self._minutes.setdefault(minute, IdSet())
            self._first_offsets.setdefault(minute, int(offsets[at[0]]))
            first[at] = remembered.add(ids[at])
        self._forget()
        return None if first.all() else first

    def _forget(self) -> None:
        for minute in [m for m in self._minutes if m < self._reached // MINUTE - HORIZON]:
            self._drop(minute)
        while len(self) > self._most and len(self._minutes) > 1:
            self.forgotten_early += self._drop(min(self._minutes))

    def _drop(self, minute: int) -> int:
        del self._first_offsets[minute]
        return len(self._minutes.pop(minute))


def _identities(event_ids: pl.Series, times: npt.NDArray[np.int64]) -> Ids:
    """A hash of each event's id and time. One in 2^64 is not told from another, nor from 0."""
    hashes: Ids = event_ids.hash(_SEED).to_numpy()
    return np.maximum(hashes ^ (times.view(np.uint64) * _SPREAD), np.uint64(1))
