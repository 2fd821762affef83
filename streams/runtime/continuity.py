"""Whether the fetches of a partition follow one another without a hole.

Acknowledging a fetch acknowledges all before it, so none may get lost between Kafka and the step. Faust
can lose one: it empties its queues when a recovery ends, at a moment when fetches may already be in them.
"""

from dataclasses import dataclass
from enum import Enum, auto


class Verdict(Enum):
    """What to do with a fetch."""

    TAKE = auto()
    REWIND = auto()
    """Leave it, and fetch from `Continuity.expected` again."""
    LEAVE = auto()
    """It was fetched before the rewinding; the same records come again."""


@dataclass
class Continuity:
    """One partition's fetches, in order."""

    expected: int
    """The offset that comes next."""
    _after_hole: int | None = None

    def judge(self, first: int, last: int) -> Verdict:
        """Judge a fetch by its first and last offset; one that is taken moves `expected` on.

        A hole is fetched again. If the same fetch comes after it once more, there is nothing in the hole:
        retention or the end of a transaction has made it.
        """
        if first <= self.expected or first == self._after_hole:
            self.expected = max(self.expected, last + 1)
            self._after_hole = None
            return Verdict.TAKE
        if self._after_hole is None:
            self._after_hole = first
            return Verdict.REWIND
        return Verdict.LEAVE
