"""Requests for the window tests, as dictionaries and as the frame that the agents count."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
from hypothesis import strategies as st

from schemas.time import MINUTE, SECOND
from streams.catalogue.measures import LATENCIES, SUMS

NOON = 1_763_726_400 * SECOND
"""2025-11-21 12:00:00 UTC, the start of a minute."""

SCHEMA = pl.Schema(
    {
        "_offset": pl.Int64(),
        "_arrived": pl.Int64(),
        "event_id": pl.String(),
        "occurred_at": pl.Datetime("us", "UTC"),
        "imported": pl.Boolean(),
        **dict.fromkeys(
            (
                "service",
                "provider",
                "model",
                "space_id",
                "user_id",
                "workflow",
                "workflow_version",
                "region",
                "error_type",
            ),
            pl.String(),
        ),
        **dict.fromkeys(("errors", "cache_hits", "unpriced"), pl.Boolean()),
        **dict.fromkeys(
            ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano_usd"),
            pl.Int64(),
        ),
        **dict.fromkeys(LATENCIES, pl.Int64()),
    }
)

Request = dict[str, Any]


def request(offset: int, at: int = NOON, **fields: Any) -> Request:
    """One request; `at` is its event time in microseconds."""
    row: Request = dict.fromkeys(SCHEMA)
    row |= {
        "_offset": offset,
        "_arrived": at,
        "event_id": f"e{offset}",
        "occurred_at": at,
        "imported": False,
        "service": "support",
        "provider": "openai",
        "model": "gpt-4o",
        "space_id": "s1",
        "user_id": "u1",
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "cost_nano_usd": 1_000,
        "cache_hits": False,
        "total_us": 1_000_000,
    }
    row |= fields
    row["errors"] = row["error_type"] is not None
    row["unpriced"] = row["cost_nano_usd"] is None
    return row


def frame(requests: Sequence[Request]) -> pl.DataFrame:
    """The requests as columns."""
    columns = {name: [row[name] for row in requests] for name in SCHEMA}
    times = pl.Series("occurred_at", columns["occurred_at"], pl.Int64).cast(pl.Datetime("us", "UTC"))
    requests = pl.DataFrame(columns | {"occurred_at": times}, schema=SCHEMA)
    return requests.with_columns(
        pl.col(name).cast(pl.Int64).fill_null(0) for name in SUMS if name != "requests"
    )


def utc(micros: int) -> datetime:
    """Microseconds since 1970 as a datetime."""
    return datetime.fromtimestamp(micros / SECOND, UTC)


def varied(count: int, seed: int = 1) -> list[Request]:
    """As many requests, always the same: out of order, of three minutes, some without keys and figures."""
    chance = random.Random(seed)

    def one_of(*values: Any) -> Any:
        return chance.choice(values)

    def some(largest: int) -> int | None:
        return one_of(None, 0, chance.randrange(largest), chance.randrange(largest))

    return [
        request(
            offset,
            NOON + chance.randrange(-MINUTE, 2 * MINUTE),
            service=one_of("support", "search", "sales"),
            provider=one_of("openai", "anthropic"),
            model=one_of("small", "medium", "large"),
            space_id=one_of(None, "s1", "s2", "s3", "s4"),
            user_id=one_of(None, *(f"u{n}" for n in range(30))),
            workflow=one_of(None, "answer", "sum up"),
            workflow_version=one_of(None, "1", "2"),
            region=(None, "eu-central-1", "us-east-1")[offset % 3],
            error_type=one_of(None, None, "timeout", "rate_limited"),
            cache_hits=one_of(False, True),
            prompt_tokens=some(10**6),
            cached_tokens=some(10**4),
            completion_tokens=some(10**5),
            reasoning_tokens=some(10**3),
            cost_nano_usd=some(10**6),
            **{name: some(10**9) for name in LATENCIES},
        )
        for offset in range(count)
    ]


_durations = st.none() | st.integers(0, 10**9)
_tokens = st.none() | st.integers(0, 10**6)


@st.composite
def many(draw: st.DrawFn, largest: int = 60) -> list[Request]:
    """Requests in the order of their offsets, out of order in event time, over some minutes."""
    count = draw(st.integers(1, largest))
    return [
        request(
            offset,
            NOON + draw(st.integers(-3 * MINUTE, 3 * MINUTE)),
            service=draw(st.sampled_from(["support", "search"])),
            provider=draw(st.sampled_from(["openai", "anthropic"])),
            model=draw(st.sampled_from(["small", "large"])),
            space_id=draw(st.sampled_from([None, "s1", "s2", "s3"])),
            user_id=draw(st.sampled_from([None, *(f"u{n}" for n in range(20))])),
            workflow=draw(st.sampled_from([None, "answer"])),
            workflow_version=draw(st.sampled_from([None, "1", "2"])),
            region=draw(st.sampled_from([None, "eu-central-1", "us-east-1"])),
            error_type=draw(st.sampled_from([None, None, "timeout"])),
            cache_hits=draw(st.booleans()),
            prompt_tokens=draw(_tokens),
            cost_nano_usd=draw(_tokens),
            total_us=draw(_durations),
            first_token_us=draw(_durations),
        )
        for offset in range(count)
    ]
