"""The trace files that are known by their header."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from traffic.fields import COUNT, DURATION, MOMENT, NOTE, TEXT, Column

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class Format:
    """How a kind of file becomes requests.

    `columns` says where fields stand; names that begin with `_` are no fields of the event, but what
    `finish` makes some from. `constants` hold for every line.
    """

    name: str
    columns: Mapping[str, Column]
    constants: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[pl.DataFrame], pl.DataFrame] = lambda frame: frame

    def fits(self, header: list[str]) -> bool:
        return {column.name for column in self.columns.values()} <= set(header)


AZURE = Format(
    "Azure LLM inference trace",
    {
        "occurred_at": Column("TIMESTAMP", MOMENT, "iso", required=True),
        "prompt_tokens": Column("ContextTokens", COUNT, required=True),
        "completion_tokens": Column("GeneratedTokens", COUNT, required=True),
    },
    {"service": "azure-llm-trace", "provider": "azure", "model": "unknown"},
)

LLMPERF_START = datetime(2023, 12, 19, 11, tzinfo=UTC)
"""The leaderboard's results are «up-to-date of December 19, 2023, 3am PST»."""
LLMPERF_CONCURRENCY = 5
_REFUSED_US = _SECOND_US
"""How long a request without a latency holds its place on the time line."""


def _finish_llmperf(frame: pl.DataFrame) -> pl.DataFrame:
    """Names models and errors, and lays the requests out in time.

    A request that was refused has no latency, and what stands there as its tokens (550 and 1) was asked
    for but not spent: both are unknown.
    """
    code, message = pl.col("_error_code"), pl.col("_error_msg").str.to_lowercase()
    failed = code.is_not_null() | message.is_not_null()
    refused = failed & (pl.col("total_us").fill_null(0) == 0)
    named = frame.with_columns(
        model=pl.format("llama-2-{}-chat", "_model_size"),
        error_type=pl.when(~failed)
        .then(None)
        .when(code == "429")
        .then(pl.lit("rate_limited"))
        .when(message.str.starts_with("output too few tokens"))
        .then(pl.lit("output_too_short"))
        .when((code == "408") | message.str.contains("time(d )?-?out"))
        .then(pl.lit("timeout"))
        .when(code.str.contains("^5..$"))
        .then(pl.lit("provider_error"))
        .when(code.str.contains("^4..$"))
        .then(pl.lit("invalid_request"))
        .otherwise(pl.lit("unknown")),
        **{
            name: pl.when(~refused).then(pl.col(name))
            for name in ("total_us", "first_token_us", "prompt_tokens", "completion_tokens")
        },
    )
    return named.with_columns(
        # The client called the models directly: all of the time is theirs.
        model_us=pl.col("total_us"),
        streamed=pl.lit(value=True),
        occurred_at=pl.Series(_ends(named), dtype=pl.Int64),
    )


def _ends(frame: pl.DataFrame) -> list[int]:
    """When each request ended, in microseconds since 1970: five at a time per provider and model, in the
    order of the file, each beginning when one before it has ended, the first ones at LLMPERF_START."""
    start_us = int(LLMPERF_START.timestamp()) * _SECOND_US
    free: dict[tuple[str, str], list[int]] = defaultdict(lambda: [start_us] * LLMPERF_CONCURRENCY)
    ends = []
    for provider, model, total_us in frame.select("provider", "model", "total_us").iter_rows():
        places = free[provider, model]
        end = places[0] + (_REFUSED_US if total_us is None else total_us)
        heapq.heapreplace(places, end)
        ends.append(end)
    return ends


LLMPERF = Format(
    "llmperf request file",
    {
        "provider": Column("provider", TEXT, required=True),
        "_model_size": Column("model_size", TEXT, required=True),
        "_error_code": Column("error_code", TEXT),
        "_error_msg": Column("error_msg", NOTE),
        "first_token_us": Column("ttft_s", DURATION, "s"),
        "total_us": Column("end_to_end_latency_s", DURATION, "s"),
        "completion_tokens": Column("number_output_tokens", COUNT),
        "prompt_tokens": Column("number_input_tokens", COUNT),
    },
    {"service": "llmperf"},
    _finish_llmperf,
)

KNOWN = (AZURE, LLMPERF)
