"""How long an endpoint has been failing without a break, and what follows."""

from dataclasses import dataclass
from typing import Final

import orjson

from schemas.time import DAY, Micros

WARNINGS: Final = (0.5, 0.7, 0.9)
"""At which shares of the time until it is disabled people are warned."""
_PROBING: Final = 5
"""After so many failures in a row an endpoint is tried one at a time."""
_EVIDENCE: Final = DAY
"""The last failure must be as recent as the longest wait, for an endpoint to be disabled by the clock."""


@dataclass(slots=True)
class Health:
    """Of one endpoint."""

    failing_since: Micros | None = None
    """The first failure since the last success."""
    failed_at: Micros = 0
    """The latest one."""
    failures: int = 0
    """How many there were in a row."""
    warned: float = 0.0
    """The share that people were told of."""
    error: str = ""
    """What the latest failure was."""

    @property
    def probing(self) -> bool:
        """Whether it has failed so often in a row that one request at a time is enough."""
        return self.failures >= _PROBING

    def succeeded(self) -> bool:
        """It has taken something. Returns whether that is a change."""
        changed = self.failing_since is not None
        self.failing_since, self.failures, self.warned, self.error = None, 0, 0.0, ""
        return changed

    def failed(self, now: Micros, error: str) -> None:
        """It has not."""
        if self.failing_since is None:
            self.failing_since = now
        self.failed_at = now
        self.failures += 1
        self.error = error

    def share(self, now: Micros, limit: Micros) -> float:
        """How much of the time until it is disabled has passed."""
        return 0.0 if self.failing_since is None else (now - self.failing_since) / limit

    def warning(self, now: Micros, limit: Micros) -> float | None:
        """The share that people are to be told of now: the greatest that was reached and not told."""
        share = self.share(now, limit)
        reached = [step for step in WARNINGS if self.warned < step <= share]
        return reached[-1] if reached else None

    def hopeless(self, now: Micros, limit: Micros) -> bool:
        """Whether it has failed for `limit`, and still did lately."""
        return self.share(now, limit) >= 1 and now - self.failed_at <= _EVIDENCE

    def pack(self) -> bytes:
        """As an entry of the state."""
        return orjson.dumps([self.failing_since, self.failed_at, self.failures, self.warned, self.error])

    @classmethod
    def unpack(cls, packed: bytes) -> "Health":
        """From an entry of the state."""
        since, at, failures, warned, error = orjson.loads(packed)
        return cls(since, at, failures, warned, error)
