"""The sampled states of the simulated services' instances, every ten seconds."""

import numpy as np
import polars as pl

from traffic.product import MODELS, SERVICES
from traffic.requests import bursts, hex_ids

EVERY_US = 10_000_000
_INSTANCES = [(one.name, f"{one.name}-{place}") for one in SERVICES for place in range(one.instances)]
_BREAKER = {0: "closed", 2: "open"}
_GIB = 1 << 30


def samples(seed: int, since_us: int, span_us: tuple[int, int], rng: np.random.Generator) -> pl.DataFrame:
    """What is sampled between the two moments of `span_us` (the second excluded), in microseconds
    since 1970; the stream began at `since_us`. The columns of Sample, `_due_us` and `_kind`.

    A circuit breaker is open while the provider that its instance calls most is in trouble.
    """
    first, last = (-(-(moment - since_us) // EVERY_US) for moment in span_us)
    ticks = since_us + np.arange(first, last) * EVERY_US
    trouble = bursts(seed, since_us, ticks)
    frames = [
        frame
        for place, (service, instance) in enumerate(_INSTANCES)
        for frame in _of_instance(place, service, instance, ticks, trouble, rng)
    ]
    every = pl.concat(frames)
    return every.with_columns(
        event_id=pl.Series(hex_ids(rng, len(every), 32), dtype=pl.String),
        occurred_at=pl.col("_due_us").cast(pl.Datetime("us", "UTC")),
        imported=pl.lit(value=False),
        _kind=pl.lit("sample"),
    )


def _of_instance(
    place: int,
    service: str,
    instance: str,
    ticks: np.typing.NDArray[np.int64],
    trouble: np.typing.NDArray[np.bool_],
    rng: np.random.Generator,
) -> list[pl.DataFrame]:
    size = len(ticks)
    weights = next(one.models for one in SERVICES if one.name == service)
    breaker = np.where(trouble[:, int(np.argmax(weights))], 2, 0)
    minutes = ticks / 60_000_000
    swell = 1 + 0.3 * np.sin(minutes / 7 + place)
    sockets = rng.poisson(180 * swell)
    queue = rng.poisson(2 * swell) + breaker * rng.poisson(15, size)
    # Memory grows until the garbage is collected.
    memory = 0.6 * _GIB + 0.25 * _GIB * ((minutes / 11 + place / 3) % 1) + rng.integers(0, 1 << 22, size)
    measured = {
        "open_websockets": sockets,
        "queue_depth": queue,
        "memory_bytes": memory.astype(np.int64),
        "circuit_breaker": breaker,
    }
    provider = MODELS[int(np.argmax(weights))].provider
    called = [f"provider={provider}"]
    return [
        pl.DataFrame({"_due_us": pl.Series(ticks, dtype=pl.Int64)}).with_columns(
            service=pl.lit(service),
            instance=pl.lit(instance),
            name=pl.lit(name),
            value=pl.Series(values.astype(np.float64)),
            state=pl.Series([_BREAKER[int(value)] for value in values], dtype=pl.String)
            if name == "circuit_breaker"
            else pl.lit(None, pl.String),
            attributes=pl.lit(called if name == "circuit_breaker" else [], pl.List(pl.String)),
        )
        for name, values in measured.items()
    ]
