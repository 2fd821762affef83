"""The requests of a simulated product: who asks what, what it takes, what goes wrong."""

import numpy as np
import numpy.typing as npt
import polars as pl

from traffic.product import ATTRIBUTES, MODELS, SERVICES, WORKFLOWS, Population
from traffic.scenario import Scenario

_SECOND_US = 1_000_000
_HOUR_US = 3_600 * _SECOND_US

# Windows take events until 26 h behind the watermark. Both ranges keep away from that edge, so that
# what was meant late is late, and what was meant too late is too late, on any machine.
LATE_US = (15 * _SECOND_US, round(25.9 * _HOUR_US))
TOO_LATE_US = (round(26.2 * _HOUR_US), 72 * _HOUR_US)

_BURST_US = 90 * _SECOND_US
_BURST_CHANCE = 0.04
_ERROR_SHARE = 0.012
_BURST_ERROR_SHARE = 0.35
ERRORS = (("rate_limited", 0.42), ("timeout", 0.28), ("provider_error", 0.24), ("content_filter", 0.06))

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def pick(rng: np.random.Generator, weights: npt.ArrayLike, size: int) -> Ints:
    """Places in `weights`, as often as they weigh."""
    cumulative = np.cumsum(np.asarray(weights, np.float64))
    return np.searchsorted(cumulative / cumulative[-1], rng.random(size), side="right")


def hex_ids(rng: np.random.Generator, size: int, digits: int) -> list[str]:
    drawn = rng.bytes(size * digits // 2).hex()
    return [drawn[at : at + digits] for at in range(0, size * digits, digits)]


def bursts(seed: int, since_us: int, at_us: Ints) -> npt.NDArray[np.bool_]:
    """Which providers are in trouble at the given moments: (moments, models), True in a burst.

    Trouble comes over a provider for 90 s at a time, counted from the stream's start.
    """
    stretches, places = np.unique((at_us - since_us) // _BURST_US, return_inverse=True)
    providers = sorted({model.provider for model in MODELS})
    of_model = [providers.index(model.provider) for model in MODELS]
    trouble = np.array(
        [
            np.random.default_rng((seed, 3, max(0, int(stretch)))).random(len(providers)) < _BURST_CHANCE
            for stretch in stretches
        ]
    ).reshape(len(stretches), len(providers))
    return trouble[:, of_model][places]


def draw(
    scenario: Scenario, population: Population, rng: np.random.Generator, first: int, at: Ints
) -> pl.DataFrame:
    """Requests that end at the given moments (microseconds since 1970, ascending).

    Columns of RequestEvent, of which `traffic.details` adds the others; and `_due_us`, when to send it;
    `_kind`: `request`, `late`, `too late`; `_model`, its place in MODELS; `_traced`, `_started`. `first` is
    the first one's place in the stream.
    """
    size = len(at)
    user = np.searchsorted(population.cumulative, rng.random(size))
    anonymous = rng.random(size) < 0.02
    spaceless = anonymous & (rng.random(size) < 0.5)
    service = pick(rng, [one.share for one in SERVICES], size)
    model, workflow, version, instance = (np.zeros(size, np.int64) for _ in range(4))
    for place, one in enumerate(SERVICES):
        of_it = np.flatnonzero(service == place)
        model[of_it] = pick(rng, one.models, len(of_it))
        workflow[of_it] = pick(rng, one.workflows, len(of_it))
        instance[of_it] = rng.integers(0, one.instances, len(of_it))
    for place, flow in enumerate(WORKFLOWS):
        of_it = np.flatnonzero(workflow == place)
        version[of_it] = pick(rng, [share for _, share in flow.versions], len(of_it))

    hit = rng.random(size) < 0.06
    trouble = bursts(scenario.seed, scenario.timeline.start_us, at)[np.arange(size), model]
    failed = ~hit & (rng.random(size) < np.where(trouble, _BURST_ERROR_SHARE, _ERROR_SHARE))
    error = np.where(failed, pick(rng, [share for _, share in ERRORS], size), -1)
    measured = _tokens_and_times(rng, model, workflow, hit, error)

    lateness, kind = _lateness(scenario, rng, first, size)
    traced = rng.random(size) < scenario.traced
    columns = {
        "event_id": pl.Series(hex_ids(rng, size, 32)),
        "request_id": pl.Series(hex_ids(rng, size, 24)),
        "trace_id": _unless(~traced, pl.Series(hex_ids(rng, size, 32))),
        "phase": pl.Series(["finished"] * size),
        "occurred_at": pl.Series(at - lateness).cast(pl.Datetime("us", "UTC")),
        "imported": pl.Series(np.zeros(size, np.bool_)),
        "service": _taken([one.name for one in SERVICES], service),
        "instance": _taken(
            [f"{one.name}-{place}" for one in SERVICES for place in range(_MOST_INSTANCES)],
            service * _MOST_INSTANCES + instance,
        ),
        "provider": _taken([one.provider for one in MODELS], model),
        "model": _taken([one.name for one in MODELS], model),
        "space_id": _unless(spaceless, pl.Series(population.spaces)[population.space_of[user]]),
        "user_id": _unless(anonymous, pl.Series(population.users)[user]),
        "workflow": _taken([flow.name for flow in WORKFLOWS], workflow),
        "workflow_version": _taken(
            [
                flow.versions[min(place, len(flow.versions) - 1)][0]
                for flow in WORKFLOWS
                for place in range(_MOST_VERSIONS)
            ],
            workflow * _MOST_VERSIONS + version,
        ),
        "error_type": _unless(~failed, _taken([name for name, _ in ERRORS], np.maximum(error, 0))),
        "cache_hit": pl.Series(hit),
        **measured,
        "attributes": pl.Series(ATTRIBUTES)[rng.integers(0, len(ATTRIBUTES), size)],
        "_due_us": pl.Series(at),
        "_kind": _taken(["request", "late", "too late"], kind),
        "_model": pl.Series(model),
        "_traced": pl.Series(traced),
        "_started": pl.Series(rng.random(size) < scenario.started),
    }
    return pl.DataFrame(columns)


_MOST_INSTANCES = max(service.instances for service in SERVICES)
_MOST_VERSIONS = max(len(flow.versions) for flow in WORKFLOWS)


def _tokens_and_times(
    rng: np.random.Generator, model: Ints, workflow: Ints, hit: Flags, error: Ints
) -> dict[str, pl.Series]:
    """Tokens, cost and latencies. They hang together: more tokens take longer, every part is within
    the whole, and context + model <= total."""
    size = len(model)

    def around(median: npt.ArrayLike, spread: float) -> Floats:
        return np.asarray(median * np.exp(spread * rng.standard_normal(size)))

    def of_model(attribute: str) -> npt.NDArray[np.int64]:
        return np.array([int(getattr(one, attribute) or 0) for one in MODELS])[model]

    failure = [name for name, _ in ERRORS]
    cut_off = (error >= 0) & (error != failure.index("content_filter"))
    timed_out = error == failure.index("timeout")
    reasons, caches = of_model("reasons") > 0, of_model("caches") > 0

    prompt = np.clip(around(900, 0.9), 12, 120_000).astype(np.int64)
    cached = np.where(rng.random(size) < 0.45, (prompt * rng.uniform(0.3, 0.95, size)) // 128 * 128, 0)
    reasoning = np.where(reasons, np.clip(around(350, 0.9), 16, 12_000), 0).astype(np.int64)
    completion = np.clip(around(170, 0.8), 2, 8_000).astype(np.int64) + reasoning
    for tokens in (prompt, cached, reasoning, completion):
        tokens[hit] = 0

    wait = around(of_model("first_token_us"), 0.35) + reasoning * of_model("token_us")
    generation = (completion - reasoning) * of_model("token_us") * np.exp(0.2 * rng.standard_normal(size))
    context = around(np.array([flow.context_us for flow in WORKFLOWS])[workflow], 0.5)
    # Retrieval runs beside the first words: it never outlasts the answer's own time.
    context = np.where(cut_off | hit, context, np.minimum(context, 0.9 * generation))
    refused = around(70_000, 0.4)  # a rate limit or an error answers fast
    in_model = np.where(cut_off, np.where(timed_out, 60_000_000, refused), wait + generation)
    context_us, model_us = context.astype(np.int64), in_model.astype(np.int64)
    model_us[hit] = 0
    total_us = context_us + model_us + around(14_000, 0.5).astype(np.int64) + 1
    first_token_us = np.where(hit, total_us - 1, context_us + wait.astype(np.int64))
    streamed = rng.random(size) < 0.8
    charged = (prompt + completion) * of_model("charges")

    def known(values: npt.NDArray[np.generic], unknown: Flags) -> pl.Series:
        return _unless(unknown, pl.Series(values.astype(np.int64)))

    return {
        "streamed": pl.Series(streamed),
        "prompt_tokens": known(prompt, cut_off),
        "cached_tokens": known(cached, cut_off | ~caches),
        "completion_tokens": known(completion, cut_off),
        "reasoning_tokens": known(reasoning, cut_off | ~reasons),
        "cost_nano_usd": known(charged, cut_off | (of_model("charges") == 0)),
        "total_us": pl.Series(total_us),
        "context_us": pl.Series(context_us),
        "model_us": known(model_us, hit),
        "first_token_us": known(first_token_us, cut_off | ~streamed),
    }


def _lateness(
    scenario: Scenario, rng: np.random.Generator, first: int, size: int
) -> tuple[Ints, npt.NDArray[np.int64]]:
    """By how much each request is late (microseconds), and whether it is: 0 no, 1 late, 2 too late."""
    drawn = rng.random(size)
    kind = np.where(drawn < scenario.too_late, 2, np.where(drawn < scenario.too_late + scenario.late, 1, 0))
    kind[first + np.arange(size) < scenario.lateness_from] = 0
    by = np.zeros(size)
    for which, (least, most) in ((1, LATE_US), (2, TOO_LATE_US)):
        spread = least * (most / least) ** rng.random(size)  # as often minutes as hours
        by = np.where(kind == which, spread, by)
    return by.astype(np.int64), kind


def _taken(values: list[str], places: Ints) -> pl.Series:
    return pl.Series(values)[places]


def _unless(unknown: Flags, values: pl.Series) -> pl.Series:
    return values.set(pl.Series(unknown), None)
