"""What simulated requests report beside their figures: where they ran, of which conversation and
experiment they are a part, how the answer came, and what some kinds of request have of their own."""

import numpy as np
import numpy.typing as npt
import polars as pl

from traffic.product import AUDIO, EMBEDDINGS, EXPERIMENT, MODELS, SERVICES, Model

_CONVERSATION_US = 1_800 * 1_000_000
_EMBEDDED = 0.08
"""The share of the requests to OpenAI for search that embed a text."""
_SPOKEN = 0.25
"""The share of the requests to gpt-4o from phones that are spoken."""
_WRITES = 0.35
"""The share of the requests to a model with a cache that is written to."""
_FOR_AN_HOUR = 0.2
_RETRIED = 0.03
_MOST_RETRIES = 3
_FINISHES = (0.9, 0.04, 0.06)
"""How often an answer ends by itself, at its longest, and with a call of a tool."""

Flags = npt.NDArray[np.bool_]


def detailed(requests: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The requests (as `traffic.requests.draw` has them) with the other columns of RequestEvent.

    A few become embeddings, and a few spoken ones. Users' turns within half an hour are of one conversation;
    an instance is in one region; a user is always in the same variant.
    """
    whole = _embedded(_spoken(requests.with_columns(operation=pl.lit("chat")), rng), rng)
    return whole.with_columns(*_placed(whole), *_written(whole, rng), *_streamed(whole), *_ended(whole, rng))


def _chance(rng: np.random.Generator, requests: pl.DataFrame, share: float, where: pl.Expr) -> pl.Expr:
    drawn = pl.lit(pl.Series(rng.random(len(requests)) < share))
    return drawn & where & ~pl.col("cache_hit") & pl.col("error_type").is_null()


def _spoken(requests: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """The users speak, and are answered by voice: most of the tokens are audio."""
    size = len(requests)
    spoken = _chance(
        rng,
        requests,
        _SPOKEN,
        (pl.col("service") == "chat-mobile")
        & (pl.col("provider") == "openai")
        & (pl.col("model") == "gpt-4o"),
    )
    shares = {name: pl.lit(pl.Series(rng.uniform(0.5, 0.9, size))) for name in ("prompt", "completion")}
    return requests.with_columns(
        model=pl.when(spoken).then(pl.lit(AUDIO.name)).otherwise("model"),
        **{
            f"{name}_audio_tokens": pl.when(spoken).then((pl.col(f"{name}_tokens") * share).cast(pl.Int64))
            for name, share in shares.items()
        },
    )


def _embedded(requests: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    """No answer to stream, and no completion tokens: these providers don't report any."""
    embedded = _chance(
        rng,
        requests,
        _EMBEDDED,
        (pl.col("workflow") == "search-and-answer")
        & (pl.col("provider") == EMBEDDINGS.provider)
        & pl.col("prompt_audio_tokens").is_null(),
    )
    took = pl.lit(
        pl.Series((EMBEDDINGS.first_token_us * rng.uniform(0.6, 1.8, len(requests))).astype(np.int64))
    )
    unreported = ("cached_tokens", "completion_tokens", "reasoning_tokens", "first_token_us")
    return requests.with_columns(
        operation=pl.when(embedded).then(pl.lit("embeddings")).otherwise("operation"),
        model=pl.when(embedded).then(pl.lit(EMBEDDINGS.name)).otherwise("model"),
        streamed=pl.col("streamed") & ~embedded,
        model_us=pl.when(embedded).then(took).otherwise("model_us"),
        total_us=pl.when(embedded).then(pl.col("total_us") - pl.col("model_us") + took).otherwise("total_us"),
        **{name: pl.when(~embedded).then(pl.col(name)) for name in unreported},
    )


def _placed(requests: pl.DataFrame) -> list[pl.Expr]:
    """Where the requests ran, and of what they are a part."""
    regions = {
        f"{service.name}-{place}": service.regions[place % len(service.regions)]
        for service in SERVICES
        for place in range(service.instances)
    }
    tested = pl.col("service") == EXPERIMENT.service
    digit = pl.coalesce("user_id", "request_id").str.slice(-1).str.to_integer(base=16, dtype=pl.Int64)
    variants = pl.lit(pl.Series(EXPERIMENT.variants)).gather(digit % len(EXPERIMENT.variants))
    return [
        pl.col("instance").replace_strict(regions, return_dtype=pl.String).alias("region"),
        pl.format(
            "c-{}-{}-{}", pl.col("user_id").str.slice(2), "service", pl.col("_due_us") // _CONVERSATION_US
        ).alias("conversation_id"),
        pl.when(tested).then(pl.lit(EXPERIMENT.name)).alias("experiment"),
        pl.when(tested).then(variants).alias("variant"),
    ]


def _written(requests: pl.DataFrame, rng: np.random.Generator) -> list[pl.Expr]:
    """What of the prompt was written to the provider's cache, where the provider tells."""
    size = len(requests)
    drawn = rng.random(size)
    fresh = pl.col("prompt_tokens") - pl.col("cached_tokens")
    share = pl.lit(pl.Series(np.where(drawn < _WRITES, rng.uniform(0.3, 0.9, size), 0)))
    longer = pl.lit(pl.Series(np.where(drawn < _WRITES * _FOR_AN_HOUR, rng.uniform(0.5, 1, size), 0)))
    tells = pl.col("provider").is_in([model.provider for model in MODELS if model.writes])
    written = (fresh * share).cast(pl.Int64)
    return [
        pl.when(tells).then(written).alias("cache_write_tokens"),
        pl.when(tells).then((written * longer).cast(pl.Int64)).alias("cache_write_1h_tokens"),
    ]


def _streamed(requests: pl.DataFrame) -> list[pl.Expr]:
    """When the last token came, and in how many chunks, of the answers that were streamed."""
    streamed = pl.col("first_token_us").is_not_null()
    last = pl.max_horizontal("first_token_us", pl.col("context_us") + pl.col("model_us").fill_null(0))
    words = pl.col("completion_tokens") - pl.col("reasoning_tokens").fill_null(0)
    chunks = pl.max_horizontal(1, words // _of_model("chunk_tokens", pl.Int64))
    return [
        pl.when(streamed).then(last).alias("last_token_us"),
        pl.when(streamed).then(chunks).alias("output_chunks"),
    ]


def _ended(requests: pl.DataFrame, rng: np.random.Generator) -> list[pl.Expr]:
    """Why the model stopped, and how often it was asked in vain before."""
    size = len(requests)
    ends = pl.Series(rng.choice(len(_FINISHES), size, p=_FINISHES))
    filtered = pl.col("error_type") == "content_filter"
    answered = (pl.col("completion_tokens") > 0) & (pl.col("error_type").is_null() | filtered)
    # The names stand one model behind the other, four of each.
    names = pl.lit(pl.Series([name for model in _ALL for name in model.finishes]))
    place = _of_model("place", pl.Int64) * 4 + pl.when(filtered).then(3).otherwise(pl.lit(ends))
    failed = np.minimum(rng.geometric(1 - _RETRIED, size) - 1, _MOST_RETRIES)
    retries = (
        pl.when(pl.col("error_type") == "rate_limited")
        .then(_MOST_RETRIES)
        .otherwise(pl.lit(pl.Series(failed)))
    )
    counting = pl.col("service").is_in([service.name for service in SERVICES if service.counts_retries])
    return [
        pl.when(answered).then(names.gather(place)).alias("finish_reason"),
        pl.when(counting & ~pl.col("cache_hit")).then(retries.cast(pl.Int64)).alias("retries"),
    ]


_ALL: tuple[Model, ...] = (*MODELS, AUDIO, EMBEDDINGS)


def _of_model(attribute: str, dtype: type[pl.DataType]) -> pl.Expr:
    """An attribute of each request's model, or its place among all."""
    values = {
        f"{model.provider}/{model.name}": at if attribute == "place" else getattr(model, attribute)
        for at, model in enumerate(_ALL)
    }
    return pl.concat_str("provider", pl.lit("/"), "model").replace_strict(values, return_dtype=dtype)
