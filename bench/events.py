"""The events that everybody runs over: made from a seed, so that two runs have the same load.

Ten minutes of traffic, unless told otherwise, evenly spread: 50 spaces and 1,000 users of
unequal weight, latencies log-normal, 2 % errors, arrival up to two seconds out of order. Values are
about 167 bytes of Avro.

A message's key is its space, which spares Quix Streams a repartitioning; its partition goes by the user,
as in `chat.requests`, so that every space lies in every partition.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

SPACES = 50
USERS = 1_000
SPAN = timedelta(minutes=10)
DISORDER = timedelta(seconds=2)
AFTER = timedelta(hours=1)
"""How long after the others a partition's last event occurs."""

_MODELS = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-3-5-haiku"),
    ("azure", "gpt-4o"),
)
_SERVICES = ("chat-web", "chat-app", "chat-api")
_WORKFLOWS = ("answer", "search", "summary", "agent")
_ERRORS = ("timeout", "rate_limited", "provider_error")
_INSTANT = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Load:
    """How many events, and when the first of them occurs."""

    events: int
    start: datetime
    partitions: int = 4
    seed: int = 20_26
    span: timedelta = SPAN
    """From the first event to the last: with their number, the rate at which they once occurred."""
    spaces: int = SPACES
    users: int = USERS
    even: bool = False
    """Every user and every space is as likely as the next: all of them are active."""


@dataclass(frozen=True)
class Events:
    """Events in the order of their arrival, and the partition of each."""

    frame: pl.DataFrame
    partition: npt.NDArray[np.int64]


def start_of_load(now: datetime, span: timedelta = SPAN) -> datetime:
    """Far enough back that the closing events, too, have already occurred."""
    return (now - span - AFTER - timedelta(minutes=5)).replace(second=0, microsecond=0)


def made(load: Load) -> Events:
    """The load's events, as columns of `RequestEvent`."""
    rng = np.random.default_rng(load.seed)
    n = load.events
    index = np.arange(n, dtype=np.int64)
    span_us = load.span // timedelta(microseconds=1)
    disorder_us = DISORDER // timedelta(microseconds=1)
    start_us = int(load.start.timestamp()) * 1_000_000
    arrival = index * (span_us - disorder_us) // n
    user = rng.choice(load.users, n, p=None if load.even else _shares(load.users, 20))
    space = rng.choice(load.spaces, n, p=None if load.even else _shares(load.spaces, 5))
    model = rng.integers(0, len(_MODELS), n)
    failed = rng.random(n) < 0.02
    hit = rng.random(n) < 0.1
    prompt = rng.lognormal(6.5, 1.0, n).astype(np.int64)
    completion = rng.lognormal(5.0, 0.8, n).astype(np.int64)
    total = rng.lognormal(14.0, 0.7, n).astype(np.int64)
    first = (total * rng.uniform(0.05, 0.4, n)).astype(np.int64)
    context = (total * rng.uniform(0.02, 0.2, n)).astype(np.int64)
    places = len(str(load.spaces - 1)), max(4, len(str(load.users - 1)))
    frame = pl.DataFrame(
        {
            "event_id": [f"{load.seed:04x}{i:012x}" for i in range(n)],
            "request_id": [f"{i:016x}" for i in range(n)],
            "trace_id": [f"{i:016x}" for i in (index * 7919).tolist()],
            "occurred_at": pl.Series(start_us + arrival + rng.integers(0, disorder_us, n)).cast(_INSTANT),
            "service": _taken(_SERVICES, rng.integers(0, len(_SERVICES), n)),
            "provider": _taken([provider for provider, _ in _MODELS], model),
            "model": _taken([name for _, name in _MODELS], model),
            "space_id": _taken([f"space-{i:0{places[0]}d}" for i in range(load.spaces)], space),
            "user_id": _taken([f"user-{i:0{places[1]}d}" for i in range(load.users)], user),
            "workflow": _taken(_WORKFLOWS, rng.integers(0, len(_WORKFLOWS), n)),
            "error_type": _taken(_ERRORS, index % len(_ERRORS)),
            "cache_hit": hit,
            "prompt_tokens": prompt,
            "cached_tokens": prompt // 4,
            "completion_tokens": completion,
            "total_us": total,
            "context_us": context,
            "model_us": total - context,
            "first_token_us": first,
        }
    ).with_columns(
        phase=pl.lit("finished"),
        instance=pl.lit("pod-1"),
        workflow_version=pl.lit("2"),
        streamed=pl.lit(value=True),
        error_type=_only("error_type", failed),
        prompt_tokens=_only("prompt_tokens", ~failed),
        cached_tokens=_only("cached_tokens", ~failed & hit),
        completion_tokens=_only("completion_tokens", ~failed),
        first_token_us=_only("first_token_us", ~failed),
    )
    return Events(frame, np.asarray(user % load.partitions, dtype=np.int64))


def closing(load: Load) -> Events:
    """Per partition an event without a space, long after the others: by event time, their windows end."""
    last = int((load.start + load.span + AFTER).timestamp()) * 1_000_000
    frame = pl.DataFrame(
        {
            "event_id": [f"{load.seed:04x}closing{i:05x}" for i in range(load.partitions)],
            "request_id": [f"closing-{i}" for i in range(load.partitions)],
        }
    ).with_columns(
        phase=pl.lit("finished"),
        occurred_at=pl.lit(last, pl.Int64).cast(_INSTANT),
        service=pl.lit(_SERVICES[0]),
        provider=pl.lit(_MODELS[0][0]),
        model=pl.lit(_MODELS[0][1]),
    )
    return Events(frame, np.arange(load.partitions, dtype=np.int64))


def _taken(values: list[str] | tuple[str, ...], places: npt.NDArray[np.int64]) -> pl.Series:
    return pl.Series(values, dtype=pl.String)[places]


def _only(column: str, where: npt.NDArray[np.bool_]) -> pl.Expr:
    return pl.when(pl.Series(where)).then(pl.col(column))


def _shares(count: int, levelling: float) -> npt.NDArray[np.float64]:
    """Shares of the load that fall like 1 / (rank + levelling)."""
    weights: npt.NDArray[np.float64] = 1 / (np.arange(count) + levelling)
    return np.asarray(weights / weights.sum())
