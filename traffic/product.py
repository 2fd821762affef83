"""A made-up chat product: its services, the models they call, its workflows and its users."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Model:
    """A model as the product meets it. Times are medians."""

    provider: str
    name: str
    first_token_us: int
    token_us: int
    """Between two tokens."""
    caches: bool = True
    """The provider caches prompts and says how much it read from there."""
    reasons: bool = False
    charges: int | None = None
    """Nano-USD per token, where the provider itself says what a request cost."""
    writes: bool = False
    """The provider says how much of a prompt it wrote to its cache, too."""
    chunk_tokens: int = 1
    """How many tokens come in one chunk of a stream."""
    finishes: tuple[str, str, str, str] = ("stop", "length", "tool_calls", "content_filter")
    """How the provider says that an answer ended by itself, was cut, calls a tool, was filtered."""


MODELS = (
    Model("openai", "gpt-4o", 420_000, 11_000),
    Model("openai", "gpt-4o-mini", 300_000, 7_000),
    Model("openai", "o3", 1_900_000, 13_000, reasons=True),
    Model("azure", "gpt-4o", 510_000, 12_500),
    Model(
        "anthropic",
        "claude-sonnet-4-5",
        780_000,
        14_000,
        writes=True,
        chunk_tokens=4,
        finishes=("end_turn", "max_tokens", "tool_use", "refusal"),
    ),
    Model(
        "google",
        "gemini-2.5-flash",
        350_000,
        5_500,
        reasons=True,
        chunk_tokens=24,
        finishes=("STOP", "MAX_TOKENS", "STOP", "SAFETY"),
    ),
    Model("mistral", "mistral-large-latest", 460_000, 16_000, caches=False),
    Model("deepseek", "deepseek-chat", 900_000, 24_000),
    Model("openrouter", "meta-llama/llama-3.3-70b-instruct", 650_000, 18_000, caches=False, charges=310),
    Model("self-hosted", "orchard-8b-chat", 240_000, 9_000, caches=False),  # has no public price
)

AUDIO = Model("openai", "gpt-4o-audio-preview", 420_000, 11_000)
"""What a spoken request to gpt-4o asks instead."""
EMBEDDINGS = Model("openai", "text-embedding-3-small", 90_000, 0, caches=False)


@dataclass(frozen=True)
class Service:
    """A chat service, and how it spreads its requests (weights, in the order of what they name)."""

    name: str
    share: float
    instances: int
    models: tuple[float, ...]
    workflows: tuple[float, ...]
    regions: tuple[str, ...]
    """Its instances run in them in turns."""
    counts_retries: bool = True


@dataclass(frozen=True)
class Workflow:
    """A workflow; `versions` with their shares, a canary among them."""

    name: str
    versions: tuple[tuple[str, float], ...]
    context_us: int
    """Median time to gather the context."""
    tool: str


WORKFLOWS = (
    Workflow("answer", (("3.2.0", 0.9), ("3.3.0-rc1", 0.1)), 40_000, "conversation_memory"),
    Workflow("search-and-answer", (("1.8.4", 1.0),), 180_000, "vector_search"),
    Workflow("summarise", (("2.0.1", 0.7), ("2.1.0", 0.3)), 90_000, "document_reader"),
    Workflow("agent", (("0.9.7", 1.0),), 350_000, "web_search"),
)

SERVICES = (
    Service(
        "chat-web",
        0.46,
        3,
        (22, 40, 4, 8, 10, 8, 0, 0, 4, 4),
        (50, 30, 15, 5),
        ("eu-west-1", "us-east-1", "ap-southeast-1"),
    ),
    Service(
        "chat-mobile", 0.27, 2, (10, 55, 0, 5, 5, 20, 0, 0, 5, 0), (70, 20, 10, 0), ("eu-west-1", "us-east-1")
    ),
    Service(
        "support-desk",
        0.18,
        2,
        (5, 10, 0, 30, 25, 0, 15, 10, 0, 5),
        (20, 60, 20, 0),
        ("eu-central-1", "eu-west-1"),
    ),
    Service(
        "code-assistant",
        0.09,
        1,
        (5, 5, 25, 5, 45, 0, 0, 15, 0, 0),
        (25, 15, 0, 60),
        ("us-east-1",),
        counts_retries=False,
    ),
)


@dataclass(frozen=True)
class Experiment:
    """Two ways to answer, of which every user of a service gets one."""

    service: str
    name: str
    variants: tuple[str, ...]


EXPERIMENT = Experiment("support-desk", "greeting", ("short", "long"))

ATTRIBUTES: tuple[list[str], ...] = (
    ["channel=web", "plan=team"],
    ["channel=web", "plan=free"],
    ["channel=app", "plan=free"],
    [],
)

_SPACE_EXPONENT = 1.1
_USER_EXPONENT = 0.7


@dataclass(frozen=True)
class Population:
    """Users, each in a space. Few spaces have most of the users, few users send most of the requests."""

    users: npt.NDArray[np.str_]
    """Pseudonyms."""
    spaces: npt.NDArray[np.str_]
    space_of: npt.NDArray[np.int64]
    """By user: where in `spaces` theirs is."""
    cumulative: npt.NDArray[np.float64]
    """By user: the share of requests that come from this one and those before."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, users: int, spaces: int) -> "Population":
        ids = rng.bytes(6 * users).hex()
        return cls(
            np.array([f"u-{ids[12 * user : 12 * user + 12]}" for user in range(users)]),
            np.array([f"space-{space + 1:03d}" for space in range(spaces)]),
            np.searchsorted(_zipf(spaces, _SPACE_EXPONENT), rng.random(users)),
            _zipf(users, _USER_EXPONENT),
        )


def _zipf(size: int, exponent: float) -> npt.NDArray[np.float64]:
    """Cumulative shares of `size` ranks by Zipf's law; the last is above every random number."""
    cumulative = np.cumsum(np.arange(1, size + 1) ** -exponent)
    cumulative /= cumulative[-1]
    cumulative[-1] = 1.0
    return cumulative
