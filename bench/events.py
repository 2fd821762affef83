"""The events that everybody runs over: made from a seed, so that two runs have the same load.

Ten minutes of traffic, unless told otherwise, evenly spread: 50 spaces and 1,000 users of
unequal weight, latencies log-normal, 2 % errors, arrival up to two seconds out of order. Values are
about 167 bytes of Avro.

A message's key is its space, which spares Quix Streams a repartitioning; its partition goes by the user,
as in `chat.requests`, so that every space lies in every partition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

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


@dataclass(frozen=True)
class Load:
    """How many events, and when the first of them occurs."""

    events: int
    start: datetime
    partitions: int = 4
    seed: int = 20_26
    span: timedelta = SPAN
    """From the first event to the last: with their number, the rate at which they once occurred."""


@dataclass(frozen=True)
class Outgoing:
    """An event and where it goes."""

    partition: int
    key: bytes
    event: dict[str, Any]


def start_of_load(now: datetime, span: timedelta = SPAN) -> datetime:
    """Far enough back that the closing events, too, have already occurred."""
    return (now - span - AFTER - timedelta(minutes=5)).replace(second=0, microsecond=0)


def outgoing(load: Load) -> Iterator[Outgoing]:
    """The events in order of arrival, then one for each partition that closes the windows."""
    rng = np.random.default_rng(load.seed)
    n = load.events
    span_us = load.span // timedelta(microseconds=1)
    disorder_us = DISORDER // timedelta(microseconds=1)
    start_us = int(load.start.timestamp()) * 1_000_000
    arrival = np.arange(n, dtype=np.int64) * (span_us - disorder_us) // n
    occurred = (start_us + arrival + rng.integers(0, disorder_us, n)).tolist()
    user = rng.choice(USERS, n, p=_shares(USERS, 20))
    space = rng.choice(SPACES, n, p=_shares(SPACES, 5)).tolist()
    model = rng.integers(0, len(_MODELS), n).tolist()
    service = rng.integers(0, len(_SERVICES), n).tolist()
    workflow = rng.integers(0, len(_WORKFLOWS), n).tolist()
    failed = (rng.random(n) < 0.02).tolist()
    hit = (rng.random(n) < 0.1).tolist()
    prompt = rng.lognormal(6.5, 1.0, n).astype(np.int64).tolist()
    completion = rng.lognormal(5.0, 0.8, n).astype(np.int64).tolist()
    total = rng.lognormal(14.0, 0.7, n).astype(np.int64)
    first = (total * rng.uniform(0.05, 0.4, n)).astype(np.int64).tolist()
    context = (total * rng.uniform(0.02, 0.2, n)).astype(np.int64)
    model_us = (total - context).tolist()
    totals, contexts = total.tolist(), context.tolist()
    partition = (user % load.partitions).tolist()
    users = user.tolist()
    for i in range(n):
        provider, name = _MODELS[model[i]]
        ok = not failed[i]
        space_id = f"space-{space[i]:02d}"
        yield Outgoing(
            partition[i],
            space_id.encode(),
            {
                "event_id": f"{load.seed:04x}{i:012x}",
                "request_id": f"{i:016x}",
                "trace_id": f"{i * 7919:016x}",
                "phase": "finished",
                "occurred_at": occurred[i],
                "service": _SERVICES[service[i]],
                "instance": "pod-1",
                "provider": provider,
                "model": name,
                "space_id": space_id,
                "user_id": f"user-{users[i]:04d}",
                "workflow": _WORKFLOWS[workflow[i]],
                "workflow_version": "2",
                "error_type": None if ok else _ERRORS[i % len(_ERRORS)],
                "cache_hit": hit[i],
                "streamed": True,
                "prompt_tokens": prompt[i] if ok else None,
                "cached_tokens": prompt[i] // 4 if ok and hit[i] else None,
                "completion_tokens": completion[i] if ok else None,
                "reasoning_tokens": None,
                "total_us": totals[i],
                "context_us": contexts[i],
                "model_us": model_us[i],
                "first_token_us": first[i] if ok else None,
            },
        )
    for i in range(load.partitions):
        yield closing(load, i)


def _shares(count: int, levelling: float) -> npt.NDArray[np.float64]:
    """Shares of the load that fall like 1 / (rank + levelling)."""
    weights: npt.NDArray[np.float64] = 1 / (np.arange(count) + levelling)
    return np.asarray(weights / weights.sum())


def closing(load: Load, partition: int) -> Outgoing:
    """An event without a space, long after the others: by event time, their windows are over."""
    return Outgoing(
        partition,
        b"closing",
        {
            "event_id": f"{load.seed:04x}closing{partition:05x}",
            "request_id": f"closing-{partition}",
            "phase": "finished",
            "occurred_at": int((load.start + load.span + AFTER).timestamp()) * 1_000_000,
            "service": _SERVICES[0],
            "provider": _MODELS[0][0],
            "model": _MODELS[0][1],
        },
    )
