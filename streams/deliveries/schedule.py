"""When a delivery that failed is tried again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schemas.time import HOUR, MINUTE, SECOND, Micros, micros

LONGEST_WAIT: Final = 24 * HOUR
"""The most that a receiver can ask for by Retry-After."""
DELAYS: Final = (
    5 * SECOND,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)


@dataclass(frozen=True)
class Schedule:
    """The waits after the first, the second, ... failed attempt; after the last one there is no other."""

    delays: tuple[Micros, ...] = DELAYS
    jitter: float = 0.1
    """By which share a wait is shorter or longer at most: what failed together doesn't come together."""

    @classmethod
    def of(cls, delays: Sequence[timedelta], jitter: float = 0.1) -> "Schedule":
        """From settings."""
        return cls(tuple(micros(delay) for delay in delays), jitter)

    @property
    def attempts(self) -> int:
        """How many attempts there are in all."""
        return len(self.delays) + 1

    def wait(self, key: bytes, attempt: int, retry_after: float | None = None) -> Micros | None:
        """How long to wait after `attempt` (from 1) has failed; None when that was the last one.

        The jitter is drawn from `key`, the delivery's, so that the wait is the same whenever it is asked
        for. `retry_after` is what the receiver asks for, in seconds: it is waited for at least, up to a day.
        """
        if attempt >= self.attempts:
            return None
        wait = self.delays[attempt - 1]
        wait += round(wait * self.jitter * _spread(key, attempt))
        if retry_after is not None and retry_after > 0:
            wait = max(wait, min(LONGEST_WAIT, round(min(retry_after, 1e6) * SECOND)))
        return wait


def _spread(key: bytes, attempt: int) -> float:
    """Something in [-1, 1), as good as drawn."""
    drawn = hashlib.blake2b(key, digest_size=8, salt=attempt.to_bytes(8, "little")).digest()
    return int.from_bytes(drawn, "little") / 2**63 - 1
