"""How many attempts are begun at once, so that answers are recorded as soon as they come. Pure.

What is answered and not yet durable is what a kill makes twice. When a process has more to do than it can,
answers queue up in front of it, and that is most of what is under way. So of a backlog it begins no more
than it can keep up with: fewer when recording takes longer than it should, more when it doesn't. A
first attempt at what was made just now is in more of a hurry, and has a bound of its own. An attempt that
waits for its receiver for long costs nothing, and counts for a moment only: who hangs takes nobody's turn.
"""

from typing import Final, NamedTuple

from schemas.time import SECOND, Micros

_YOUNG: Final = SECOND // 10
"""So long an attempt counts while it waits for its answer."""
_ALWAYS_FINE: Final = SECOND // 200
_TOO_LONG: Final = 2
"""Times the shortest: recording that takes longer than that waits in a queue."""
_LEAST: Final = 3
_AT_FIRST: Final = 4
_QUICKLY_TO: Final = 16
_SLOWER: Final = 0.7
_FORGOTTEN: Final = 1.001
_PROMPTLY: Final = 64


class Room(NamedTuple):
    """How many may begin now, in all."""

    prompt: int
    late: int
    """Of those, that nobody waits for: a backlog, or further attempts."""


class ConcurrencyLimit:
    """Adds a little while all is well (more in the beginning), and takes back a third when it isn't."""

    def __init__(self, most: int = 500) -> None:
        self._most = float(most)
        self._least = float(min(most, _LEAST))
        self._limit = float(min(most, _AT_FIRST))
        self._shortest: float | None = None
        self._slowed_at: Micros | None = None
        self._young: dict[int, Micros] = {}
        self._recording: set[int] = set()

    @property
    def limit(self) -> int:
        """How many of a backlog may be begun lately, or be answered and not recorded."""
        return int(self._limit)

    def room(self, now: Micros) -> Room:
        """How many may begin now."""
        while self._young and (oldest := next(iter(self._young.items())))[1] <= now - _YOUNG:
            del self._young[oldest[0]]
        used = len(self._young) + len(self._recording)
        prompt = max(self._limit, min(self._most, _PROMPTLY))
        return Room(max(0, int(prompt) - used), max(0, self.limit - used))

    def room_at(self) -> Micros | None:
        """When there may be more room without anything being recorded."""
        return next(iter(self._young.values())) + _YOUNG if self._young else None

    def begun(self, digest: int, now: Micros) -> None:
        """An attempt begins."""
        self._young[digest] = now

    def answered(self, digest: int) -> None:
        """Its answer has come, and is being recorded."""
        self._young.pop(digest, None)
        self._recording.add(digest)

    def recorded(self, digest: int, took: Micros, now: Micros) -> None:
        """It is durable, `took` after the answer."""
        self._recording.discard(digest)
        self._shortest = min(float(took), self._shortest or took)
        if took <= max(_ALWAYS_FINE, self._shortest * _TOO_LONG):
            quickly = self._slowed_at is None and self._limit < _QUICKLY_TO
            more = 1.0 if quickly else 1 / self._limit
            self._limit = min(self._most, self._limit + more)
        elif self._limit <= self._least:
            self._shortest *= _FORGOTTEN  # it isn't our doing: Kafka, or the machine, has become slower
        elif self._slowed_at is None or now - self._slowed_at > took:
            self._slowed_at = now
            self._limit = max(self._least, self._limit * _SLOWER)

    def gone(self, digest: int) -> None:
        """It is nobody's concern any more."""
        self._young.pop(digest, None)
        self._recording.discard(digest)
