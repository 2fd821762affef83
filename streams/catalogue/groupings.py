"""By what requests are counted."""

from dataclasses import dataclass
from typing import Final

from schemas.topics import USAGE, WINDOWS, Topic
from streams.catalogue.measures import LATENCIES, SUMS

KEY_COLUMNS: Final = 2
"""Most key fields of a grouping: the table `windows` has as many columns for them."""


@dataclass(frozen=True)
class Grouping:
    """A way of splitting requests: the event's fields that make up a key, and what is kept per group.

    A request without one of the fields is in no group.
    """

    name: str
    keys: tuple[str, ...]
    doc: str
    """What its groups are, in the plural of one sentence's object: "services"."""
    sums: tuple[str, ...] = SUMS
    latencies: tuple[str, ...] = LATENCIES
    buckets: int = 1
    """Into how many blocks the keys are spread, by hash. Many-valued groupings are spread, and kept apart."""

    def __post_init__(self) -> None:
        if len(self.keys) > KEY_COLUMNS:
            raise ValueError(
                f"{self.name} has {len(self.keys)} keys: windows has {KEY_COLUMNS} columns for them"
            )

    @property
    def many_valued(self) -> bool:
        """It has so many groups that less is kept of each, and for less time."""
        return self.buckets > 1

    @property
    def table(self) -> Topic:
        """The topic of its blocks."""
        return USAGE if self.many_valued else WINDOWS


TOTAL: Final = Grouping("total", (), "all services together")
SERVICE: Final = Grouping("service", ("service",), "chat services")
MODEL: Final = Grouping("model", ("provider", "model"), "models, by provider")
SPACE: Final = Grouping("space", ("space_id",), "spaces")
WORKFLOW: Final = Grouping("workflow", ("workflow", "workflow_version"), "workflows, by version")
REGION: Final = Grouping("region", ("region",), "regions")
ERROR: Final = Grouping("error", ("error_type",), "kinds of failure")
USER: Final = Grouping("user", ("user_id",), "users", latencies=(), buckets=64)

GROUPINGS: Final = {each.name: each for each in (TOTAL, SERVICE, MODEL, SPACE, WORKFLOW, REGION, ERROR, USER)}

KEYS: Final = {
    "service": "The chat service.",
    "provider": "Who serves the model.",
    "model": "The model.",
    "space_id": "The space.",
    "workflow": "The workflow.",
    "workflow_version": "Its version.",
    "region": "Where the request was served.",
    "error_type": "The kind of failure.",
    "user_id": "The pseudonym of the user.",
}
"""What the keys of groups are."""
