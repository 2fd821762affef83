"""Window blocks for the API's tests, and the same figures computed one request at a time."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.time import MINUTE, SECOND, Micros
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES
from streams.windows.block import Block, BlockKey, pack_rows, row_schema, write_block
from streams.windows.sketch import keys_of

NOON: Micros = 1_777_896_000 * SECOND
"""2026-05-04T12:00:00Z"""
LENGTH = {"1s": SECOND, "1m": MINUTE}


@dataclass(frozen=True)
class Request:
    """A finished request, as it counts in windows."""

    at: Micros = NOON
    service: str = "support"
    provider: str = "openai"
    model: str = "gpt-4o"
    user_id: str = "u1"
    space_id: str = "s1"
    workflow: str = "answer"
    workflow_version: str = "1"
    region: str = "eu-central-1"
    error_type: str | None = None
    cache_hit: bool = False
    prompt_tokens: int = 100
    cached_tokens: int = 40
    completion_tokens: int = 20
    reasoning_tokens: int = 5
    cost_nano_usd: int | None = 1_000
    latencies: dict[str, int] = field(default_factory=lambda: {"total_us": 1_000_000})


def some_requests(count: int, start: Micros, length: Micros, seed: int = 7) -> list[Request]:
    """Requests spread over [start, start + length), with skewed latencies."""
    draw = random.Random(seed)
    return [
        Request(
            at=start + draw.randrange(length),
            service=draw.choice(["support", "search", "sales"]),
            model=draw.choice(["gpt-4o", "gpt-4o-mini"]),
            user_id=f"u{draw.randrange(50)}",
            error_type=draw.choice([None] * 9 + ["timeout"]),
            cache_hit=draw.random() < 0.2,
            prompt_tokens=draw.randrange(1, 5_000),
            completion_tokens=draw.randrange(1, 900),
            cost_nano_usd=draw.choice([None, draw.randrange(1, 10**7)]),
            latencies={
                name: max(1, int(draw.lognormvariate(13, 1))) for name in LATENCIES if draw.random() < 0.9
            },
        )
        for _ in range(count)
    ]


def rows(requests: Sequence[Request], grouping: str) -> pa.Table:
    """A block's rows."""
    kind = GROUPINGS[grouping]
    groups: dict[tuple[Any, ...], list[Request]] = {}
    for request in requests:
        group = tuple(getattr(request, key) for key in kind.keys)
        if None not in group:
            groups.setdefault(group, []).append(request)
    table = [
        {
            **dict(zip(kind.keys, group, strict=True)),
            **_sums(of_group),
            **{k: v for name in kind.latencies for k, v in _latency(of_group, name).items()},
        }
        for group, of_group in groups.items()
    ]
    return pa.Table.from_pylist(table, schema=row_schema(GROUPINGS[grouping]))


def _sums(requests: Sequence[Request]) -> dict[str, int]:
    plain = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
    return {
        "requests": len(requests),
        "errors": sum(r.error_type is not None for r in requests),
        "cache_hits": sum(r.cache_hit for r in requests),
        "cost_nano_usd": sum(r.cost_nano_usd or 0 for r in requests),
        "unpriced": sum(r.cost_nano_usd is None for r in requests),
        **{name: sum(getattr(r, name) for r in requests) for name in plain},
    }


def _latency(requests: Sequence[Request], name: str) -> dict[str, Any]:
    values = [r.latencies[name] for r in requests if name in r.latencies]
    keys, counts = np.unique(keys_of(np.array(values, dtype=np.int64)), return_counts=True)
    return {
        f"{name}_count": len(values),
        f"{name}_sum": sum(values),
        f"{name}_min": min(values, default=None),
        f"{name}_max": max(values, default=None),
        f"{name}_keys": keys.tolist(),
        f"{name}_counts": counts.tolist(),
    }


def block(
    requests: Sequence[Request],
    grouping: str = "total",
    pane: str = "1s",
    start: Micros = NOON,
    *,
    partition: int = 0,
    imported: bool = False,
    bucket: int = 0,
    since: int = 0,
    offset: int = 10,
    watermark: Micros = NOON,
    revision: int = 0,
    closed: bool = False,
) -> tuple[bytes, bytes]:
    """Kafka key and value of a block."""
    key = BlockKey(partition, imported, pane, start, grouping, bucket)
    packed = pack_rows(rows(requests, grouping))
    end = start + LENGTH[pane]
    value = write_block(Block(key, end, since, offset, watermark, revision, closed, packed))
    return key.encode(), value


def blocks_of(
    requests: Iterable[Request],
    groupings: Sequence[str],
    pane: str,
    partition_of: Callable[[Request], int],
    *,
    imported: bool = False,
    watermark: Micros = NOON,
    closed: bool = False,
) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of all blocks that count these requests."""
    panes: dict[tuple[int, Micros], list[Request]] = {}
    for request in requests:
        panes.setdefault((partition_of(request), request.at - request.at % LENGTH[pane]), []).append(request)
    return [
        (
            partition,
            *block(
                inside,
                grouping,
                pane,
                start,
                partition=partition,
                imported=imported,
                watermark=watermark,
                closed=closed,
            ),
        )
        for (partition, start), inside in panes.items()
        for grouping in groupings
    ]


def exact_quantile(values: Sequence[int], q: float) -> int:
    """The value at rank floor(q · (n − 1))."""
    return sorted(values)[math.floor(q * (len(values) - 1))]
