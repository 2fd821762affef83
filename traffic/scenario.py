"""What to simulate."""

from dataclasses import dataclass
from datetime import datetime

from traffic.timeline import Timeline

_PUNCTUAL_FIRST = 0.01
"""The share of the run that passes before anything is late: there must be a watermark to be behind of."""


@dataclass(frozen=True)
class Scenario:
    """What to simulate. Shares lie between 0 and 1."""

    start: datetime
    seed: int = 0
    rate: float = 100.0
    """Finished requests per second."""
    count: int | None = None
    """How many requests; None for no end."""
    wave: float = 0.5
    users: int = 2_000
    spaces: int = 40
    late: float = 0.0
    """The share of requests reported 15 s to 25.9 h after they ended."""
    too_late: float = 0.0
    """The share of requests reported more than 26 h after they ended."""
    corrupt: int = 0
    """How many unreadable messages to put among the requests."""
    started: float = 0.1
    """The share of requests whose start is reported too."""
    traced: float = 0.05
    """The share of requests that come with spans."""

    @property
    def timeline(self) -> Timeline:
        return Timeline(self.start, self.rate, self.count, self.wave)

    @property
    def lateness_from(self) -> int:
        """The place in the stream of the first request that may be late."""
        return max(200, int((self.count or 0) * _PUNCTUAL_FIRST))
