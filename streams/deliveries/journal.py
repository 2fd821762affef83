"""What one partition has concluded: which of it is in the log for sure, and which ids are remembered."""

from collections.abc import Mapping
from typing import Final

from schemas.time import SECOND, Micros
from streams.deliveries.remembered import Fold, Over, Remembered

LOGGED: Final = b"l"
"""The key of the entry that says until when everything concluded is in the log."""
_FOLD_AT: Final = 256
_FOLD_EVERY: Final = 5 * SECOND


class Journal:
    """Of one partition."""

    def __init__(self, remembered: Remembered) -> None:
        self.remembered = remembered
        self._over: list[Over] = []
        self._unlogged: dict[int, Micros] = {}
        self._last: Micros = 0
        self._written: Micros = 0
        self._folded_at: Micros = 0

    def restore(self, entries: Mapping[bytes, bytes]) -> Micros:
        """Take up these entries; returns until when everything concluded was in the log."""
        self.remembered.restore(entries)
        self._last = self._written = int(entries.get(LOGGED, b"0"))
        return self._written

    def stamp(self, digest: int, now: Micros) -> Micros:
        """The delivery's attempt is concluded. When, by a clock that never stands still."""
        self._last = max(now, self._last + 1)
        self._unlogged[digest] = self._last
        return self._last

    def seen(self, stamp: Micros) -> None:
        """Something was concluded then, by whoever had the partition."""
        self._last = max(self._last, stamp)

    def over(self, over: Over, now: Micros) -> None:
        """A delivery is over: its id is remembered."""
        self.remembered.add(over, now)

    def logged(self, digest: int, over: Over | None) -> None:
        """What was concluded last about the delivery is in the log."""
        self._unlogged.pop(digest, None)
        if over is not None:
            self._over.append(over)

    def logged_until(self) -> bytes | None:
        """The entry to be written at LOGGED; None when nothing has changed."""
        until = min(self._unlogged.values(), default=self._last + 1) - 1
        if until <= self._written:
            return None
        self._written = until
        return b"%d" % until

    def fold(self, now: Micros) -> Fold | None:
        """What makes room for what is over; None when there isn't enough of it yet."""
        due = now - self._folded_at >= _FOLD_EVERY
        if not self._over or (len(self._over) < _FOLD_AT and not due):
            return None
        ready, self._over = self._over, []
        self._folded_at = now
        return self.remembered.fold(ready)
