"""Chat traffic that looks like a product's: requests, spans and samples, drawn from a seed.

Everything is a function of the scenario: the same one gives the same events, ids included, at any speed.
Requests come in blocks of 8,192; each block draws from generators of its own, seeded by the scenario's
seed and the block's number.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from schemas.topics import REQUESTS, SAMPLES, SPANS
from traffic.corruption import corrupted, places
from traffic.details import detailed
from traffic.messages import Encoder, Messages
from traffic.product import Population
from traffic.requests import draw, hex_ids
from traffic.samples import samples
from traffic.scenario import Scenario
from traffic.spans import spans

BLOCK = 8_192

# The SDK keys as this does: a user's events share a partition; those of nobody spread by request.
_REQUEST_KEY = pl.coalesce("user_id", "request_id")
_SPAN_KEY = pl.col("trace_id")
_SAMPLE_KEY = pl.concat_str("service", pl.lit("/"), "instance")

_UNKNOWN_AT_START = (
    "error_type",
    "retries",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "prompt_audio_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "completion_audio_tokens",
    "cost_nano_usd",
    "total_us",
    "context_us",
    "model_us",
    "first_token_us",
    "last_token_us",
    "output_chunks",
)


@dataclass(frozen=True)
class Block:
    """A stretch of the stream: its events as frames, each with the columns of its topic's record and
    `_due_us`, when to send it (microseconds since 1970), and `_kind`."""

    first: int
    """The place of the first request in the stream."""
    requests: pl.DataFrame
    """Finished requests, in the order of their end: of kind `request`, `late` or `too late`."""
    started: pl.DataFrame
    spans: pl.DataFrame
    samples: pl.DataFrame


def blocks(scenario: Scenario) -> Iterator[Block]:
    """The stream, block by block, in the order of time; without end if the scenario has none."""
    timeline = scenario.timeline
    population = Population.drawn(np.random.default_rng((scenario.seed, 1)), scenario.users, scenario.spaces)
    first = 0
    while scenario.count is None or first < scenario.count:
        size = BLOCK if scenario.count is None else min(BLOCK, scenario.count - first)
        root = np.random.default_rng((scenario.seed, 2, first))
        rng, rng_started, rng_spans, rng_samples, rng_details = root.spawn(5)
        at = timeline.at_us(first + np.arange(size) + rng.random(size))
        since, until = (int(edge) for edge in timeline.at_us(np.array([first, first + size], np.float64)))
        requests = detailed(draw(scenario, population, rng, first, at), rng_details)
        yield Block(
            first,
            requests,
            _started(requests, rng_started, since),
            spans(requests, rng_spans, since),
            samples(scenario.seed, timeline.start_us, (since, until), rng_samples),
        )
        first += size


def messages(scenario: Scenario, encoder: Encoder) -> Iterator[list[Messages]]:
    """The stream as messages, one list per block; corrupt ones stand among the requests."""
    stand_at = places(scenario.seed, scenario.corrupt, scenario.count)
    for block in blocks(scenario):
        finished = encoder.encode(REQUESTS.name, block.requests, _REQUEST_KEY)
        started = encoder.encode(REQUESTS.name, block.started, _REQUEST_KEY)
        broken = _corrupted(scenario, block.first, stand_at, finished)
        yield [
            Messages.merged([finished, started, broken]),
            encoder.encode(SPANS.name, block.spans, _SPAN_KEY),
            encoder.encode(SAMPLES.name, block.samples, _SAMPLE_KEY),
        ]


def _started(requests: pl.DataFrame, rng: np.random.Generator, not_before_us: int) -> pl.DataFrame:
    """The reports of some requests' start. Nothing is due before the block begins."""
    began = requests.filter("_started").with_columns(_at=pl.col("_due_us") - pl.col("total_us"))
    return began.with_columns(
        *(pl.lit(None, requests.schema[column]).alias(column) for column in _UNKNOWN_AT_START),
        event_id=pl.Series(hex_ids(rng, len(began), 32), dtype=pl.String),
        phase=pl.lit("started"),
        occurred_at=pl.col("_at").cast(pl.Datetime("us", "UTC")),
        cache_hit=pl.lit(value=False),
        _due_us=pl.max_horizontal("_at", pl.lit(not_before_us)),
        _kind=pl.lit("started"),
    )


def _corrupted(
    scenario: Scenario, first: int, stand_at: np.typing.NDArray[np.int64], finished: Messages
) -> Messages:
    whole = [value for value in finished.values if value is not None]
    broken = list(corrupted(scenario.seed, first, stand_at, whole))
    rows = [row for row, _, _ in broken]
    return Messages(
        REQUESTS.name,
        [finished.keys[row] for row in rows],
        [value for _, _, value in broken],
        finished.due_us[rows],
        [f"corrupt: {kind}" for _, kind, _ in broken],
    )
