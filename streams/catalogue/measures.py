"""What is counted of each group: the columns of a window's rows."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sum:
    """A count that adds up."""

    name: str
    doc: str


@dataclass(frozen=True)
class Latency:
    """A duration of the event's, in microseconds: a count, a sum, a minimum, a maximum and a sketch."""

    name: str
    """The event's field, and what the columns' names begin with."""
    doc: str

    @property
    def label(self) -> str:
        """What people call it: the name without its unit."""
        return self.name.removesuffix("_us")


COUNTED: Final = (
    Sum("requests", "Finished requests."),
    Sum("errors", "Those that failed."),
    Sum("cache_hits", "Those answered from the response cache of the service."),
    Sum("prompt_tokens", "Prompt tokens, cached ones included."),
    Sum("cached_tokens", "Those of prompt_tokens read from the cache of the provider."),
    Sum("completion_tokens", "Completion tokens, reasoning ones included."),
    Sum("reasoning_tokens", "Those of completion_tokens spent on reasoning."),
    Sum("cost_nano_usd", "Cost of what could be priced, in 10^-9 USD."),
    Sum("unpriced", "Requests that could not be priced."),
)
TIMED: Final = (
    Latency("total_us", "From request to last byte"),
    Latency("context_us", "Gathering the context"),
    Latency("model_us", "The share of the model"),
    Latency("first_token_us", "From request to first token"),
)

SUMS: Final = tuple(each.name for each in COUNTED)
LATENCIES: Final = tuple(each.name for each in TIMED)
LABELS: Final = tuple(each.label for each in TIMED)
TOKENS: Final = tuple(name.removesuffix("_tokens") for name in SUMS if name.endswith("_tokens"))
"""Kinds of tokens. Cached ones are a part of the prompt's, reasoning ones one of the completion's."""
