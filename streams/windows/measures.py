"""What is counted, and by what: the columns of a window's rows."""

from dataclasses import dataclass
from typing import Final

SUMS: Final = (
    "requests",
    "errors",
    "cache_hits",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced",
)
"""Counts that add up. Cached tokens are a part of the prompt's, reasoning tokens one of the completion's."""

LATENCIES: Final = ("total_us", "context_us", "model_us", "first_token_us")
"""Durations in microseconds; each has a count, a sum, a minimum, a maximum and a sketch."""


@dataclass(frozen=True)
class Grouping:
    """A way of splitting requests: the event's fields that make up a key, and what is kept per group."""

    name: str
    keys: tuple[str, ...]
    sums: tuple[str, ...] = SUMS
    latencies: tuple[str, ...] = LATENCIES
    buckets: int = 1
    """Into how many blocks the keys are spread, by hash."""


TOTAL: Final = Grouping("total", ())
SERVICE: Final = Grouping("service", ("service",))
MODEL: Final = Grouping("model", ("provider", "model"))
SPACE: Final = Grouping("space", ("space_id",))
WORKFLOW: Final = Grouping("workflow", ("workflow", "workflow_version"))
ERROR: Final = Grouping("error", ("error_type",))
USER: Final = Grouping("user", ("user_id",), latencies=(), buckets=64)
"""Many-valued, hence narrow and spread."""

GROUPINGS: Final = {g.name: g for g in (TOTAL, SERVICE, MODEL, SPACE, WORKFLOW, ERROR, USER)}
