"""Costs: what genai-prices computes request by request, a batch at a time, and what can't be priced."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ClauseEquals, ModelInfo, ModelPrice, Provider, Tier, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.counting.pricing import COLUMNS, PriceList

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SCHEMA = {
    "provider": pl.String,
    "model": pl.String,
    "error_type": pl.String,
    "prompt_tokens": pl.Int64,
    "cached_tokens": pl.Int64,
    "completion_tokens": pl.Int64,
    "reasoning_tokens": pl.Int64,
    "cost_nano_usd": pl.Int64,
    "occurred_at": pl.Datetime("us", "UTC"),
}


def request(**given: Any) -> dict[str, Any]:
    plain = dict.fromkeys(SCHEMA) | {
        "provider": "openai",
        "model": "gpt-4o",
        "prompt_tokens": 1_000,
        "completion_tokens": 100,
        "occurred_at": NOON,
    }
    return plain | given


def costs(requests: Iterable[dict[str, Any]], prices: PriceList | None = None) -> list[int | None]:
    frame = pl.DataFrame(list(requests), schema=SCHEMA)
    return (prices or PriceList()).cost(frame).to_list()


def cost(**given: Any) -> int | None:
    return costs([request(**given)])[0]


def by_the_list(
    provider: str, model: str, prompt: int, cached: int, completion: int, reasoning: int, at: datetime
) -> int:
    """The oracle: genai-prices' own arithmetic in decimals, one request at a time."""
    usage = Usage(
        input_tokens=prompt,
        cache_read_tokens=cached,
        output_tokens=completion,
        output_reasoning_tokens=reasoning,
    )
    usd = calc_price(usage, model, provider_id=provider, genai_request_timestamp=at).total_price
    return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))


def priced_by_tokens() -> list[tuple[str, str]]:
    """Every model of the list that has a price for prompt and for completion tokens, at all times."""
    return [
        (provider.id, model.id)
        for provider in get_snapshot().providers
        for model in provider.models
        if model.is_match(model.id)
        and all(
            price.input_mtok is not None and price.output_mtok is not None
            for price in (
                [model.prices]
                if isinstance(model.prices, ModelPrice)
                else [conditional.prices for conditional in model.prices]
            )
        )
    ]


@pytest.mark.slow
def test_it_equals_the_price_list_for_every_model_in_it() -> None:
    usages = [(812, 0, 97, 0), (1_001, 333, 57, 11), (250_007, 100_003, 4_001, 1_999)]
    moments = [datetime(2024, 2, 29, 0, 30, tzinfo=UTC), datetime(2026, 6, 1, 17, 45, tzinfo=UTC)]
    cases = [
        (provider, model, *usage, moments[index % 2])
        for index, (provider, model) in enumerate(priced_by_tokens())
        for usage in usages
    ]
    assert len(cases) > 3_000

    computed = costs(
        request(
            provider=provider,
            model=model,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            reasoning_tokens=reasoning,
            occurred_at=at,
        )
        for provider, model, prompt, cached, completion, reasoning, at in cases
    )

    assert computed == [by_the_list(*case) for case in cases]


POPULAR = [
    ("openai", "gpt-4o"),
    ("openai", "o3"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("azure", "gpt-4o-mini"),
    ("perplexity", "sonar-deep-research"),
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(POPULAR),
            st.integers(0, 400_000),
            st.floats(0, 1),
            st.integers(0, 30_000),
            st.floats(0, 1),
            st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
        ),
        min_size=1,
        max_size=30,
    )
)
def test_it_equals_the_price_list_for_any_mix_of_tokens_and_times(drawn: list[Any]) -> None:
    cases = [
        (provider, model, prompt, int(prompt * cached), completion, int(completion * reasoning), at)
        for (provider, model), prompt, cached, completion, reasoning, at in drawn
    ]

    computed = costs(
        request(
            provider=provider,
            model=model,
            prompt_tokens=prompt,
            cached_tokens=cached,
            completion_tokens=completion,
            reasoning_tokens=reasoning,
            occurred_at=at,
        )
        for provider, model, prompt, cached, completion, reasoning, at in cases
    )

    assert computed == [by_the_list(*case) for case in cases]


def one_model(**prices: Decimal | TieredPrices) -> PriceList:
    model = ModelInfo(id="m", match=ClauseEquals("m"), prices=ModelPrice(**prices))
    return PriceList([Provider(id="p", name="p", api_pattern="", models=[model])])


def test_cached_tokens_are_a_part_of_the_prompt_with_a_price_of_their_own() -> None:
    prices = one_model(input_mtok=Decimal(2), cache_read_mtok=Decimal("0.5"), output_mtok=Decimal(10))
    of = request(provider="p", model="m", prompt_tokens=1_000, completion_tokens=0)
    assert costs([of, of | {"cached_tokens": 400}], prices) == [2_000_000, 600 * 2_000 + 400 * 500]


def test_reasoning_tokens_are_a_part_of_the_completion() -> None:
    prices = one_model(input_mtok=Decimal(2), output_mtok=Decimal(10))
    of = request(provider="p", model="m", prompt_tokens=0, completion_tokens=100)
    assert costs([of, of | {"reasoning_tokens": 80}], prices) == [1_000_000, 1_000_000]


def test_a_tier_starts_beyond_its_boundary_and_holds_for_the_whole_request() -> None:
    tiered = TieredPrices(base=Decimal(1), tiers=[Tier(start=100, price=Decimal(2)), Tier(200, Decimal(5))])
    prices = one_model(input_mtok=tiered, output_mtok=TieredPrices(Decimal(3), [Tier(200, Decimal(7))]))
    prompts = (100, 101, 200, 201)
    assert costs(
        [request(provider="p", model="m", prompt_tokens=n, completion_tokens=1) for n in prompts], prices
    ) == [100_000 + 3_000, 202_000 + 3_000, 400_000 + 3_000, 1_005_000 + 7_000]


def test_each_event_is_rounded_once_half_to_even() -> None:
    prices = one_model(input_mtok=Decimal("0.0005"), output_mtok=Decimal("0.0001"))
    halves = [(1, 0), (3, 0), (1, 1), (0, 4), (5, 0)]  # 0.5, 1.5, 0.6, 0.4, 2.5 nano-USD
    assert costs(
        [request(provider="p", model="m", prompt_tokens=p, completion_tokens=c) for p, c in halves], prices
    ) == [0, 2, 1, 0, 2]


def test_a_price_by_the_request_is_added() -> None:
    prices = one_model(input_mtok=Decimal(1), output_mtok=Decimal(1), requests_kcount=Decimal(5))
    assert costs([request(provider="p", model="m")], prices) == [5_000_000 + 1_100_000]


def test_what_the_event_says_wins() -> None:
    assert cost(cost_nano_usd=42) == 42
    assert cost(cost_nano_usd=0, model="nobody-knows-it") == 0
    assert costs([request(cost_nano_usd=7), request()]) == [
        7,
        by_the_list("openai", "gpt-4o", 1_000, 0, 100, 0, NOON),
    ]


@pytest.mark.parametrize("reported", [{"prompt_tokens": None, "completion_tokens": None},
                                      {"prompt_tokens": 0, "completion_tokens": 0},
                                      {"prompt_tokens": 0, "completion_tokens": None}])  # fmt: skip
def test_a_failure_without_tokens_costs_nothing_whoever_answered(reported: dict[str, int | None]) -> None:
    assert cost(error_type="rate_limited", **reported) == 0
    assert cost(error_type="rate_limited", model="nobody-knows-it", **reported) == 0


def test_a_failure_with_tokens_costs_what_they_cost() -> None:
    assert cost(error_type="output_too_short") == cost()


@pytest.mark.parametrize(
    "unclear",
    [
        {"prompt_tokens": None},
        {"completion_tokens": None},
        {"prompt_tokens": None, "completion_tokens": None},
        {"error_type": "timeout", "completion_tokens": None},
        {"cached_tokens": 1_001},
        {"reasoning_tokens": 101},
        {"prompt_tokens": -5},
        {"prompt_tokens": 2**62},
        {"model": "nobody-knows-it"},
        {"provider": "nobody-knows-them"},
        {"provider": "nobody-knows-them", "prompt_tokens": 0, "completion_tokens": 0},
        {"provider": "groq", "model": "whisper-large-v3"},
        {"provider": "groq", "model": "whisper-large-v3", "prompt_tokens": 0, "completion_tokens": 0},
    ],
)
def test_what_cannot_be_priced_is_null_never_nothing(unclear: dict[str, Any]) -> None:
    assert costs([request(**unclear), request()]) == [None, cost()]


@pytest.mark.parametrize(
    ("spelling", "meant", "model"),
    [
        ("OpenAI", "openai", "gpt-4o"),
        (" openai ", "openai", "gpt-4o"),
        ("azure_openai", "azure", "gpt-4o"),
        ("azure.ai.openai", "azure", "gpt-4o"),
        ("bedrock", "aws", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("aws.bedrock", "aws", "anthropic.claude-3-5-sonnet-20241022-v2:0"),
        ("gcp.vertex_ai", "google", "gemini-2.5-pro"),
        ("google_genai", "google", "gemini-2.5-pro"),
        ("mistral_ai", "mistral", "mistral-large-latest"),
        ("xAI", "x-ai", "grok-3"),
        ("together_ai", "together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("LiteLLM", "openai", "gpt-4o"),
    ],
)
def test_providers_are_known_by_their_usual_spellings(spelling: str, meant: str, model: str) -> None:
    written = f"{meant}/{model}" if spelling == "LiteLLM" else model
    assert cost(provider=spelling, model=written) == by_the_list(meant, model, 1_000, 0, 100, 0, NOON)


def test_azure_is_not_taken_for_openai() -> None:
    azure = next(provider for provider in get_snapshot().providers if provider.id == "azure")
    own = ModelInfo(
        id="gpt-4o",
        match=ClauseEquals("gpt-4o"),
        prices=ModelPrice(input_mtok=Decimal(1_000), output_mtok=Decimal(0)),
    )
    prices = PriceList([Provider(id="azure", name=azure.name, api_pattern="", models=[own])])
    assert costs([request(provider="azure_openai")], prices) == [1_000_000_000]


def test_empty_and_categorical_frames_are_priced_like_others() -> None:
    frame = pl.DataFrame([request()], schema=SCHEMA)
    prices = PriceList()
    assert prices.cost(frame.clear()).to_list() == []
    assert prices.cost(frame.clear()).dtype == pl.Int64
    categorical = frame.with_columns(pl.col("provider", "model").cast(pl.Categorical))
    assert prices.cost(categorical).to_list() == [cost()]
    raw_time = frame.with_columns(pl.col("occurred_at").dt.timestamp("us"))
    assert prices.cost(raw_time).to_list() == [cost()]


def test_invented_model_names_do_not_fill_the_memory() -> None:
    prices = PriceList([])
    for batch in range(5):
        names = [request(model=f"invented-{batch}-{n}") for n in range(9_000)]
        assert set(costs(names, prices)) == {None}
    assert len(prices._table.pairs) <= 20_000


@pytest.mark.alone
def test_a_batch_of_sixty_thousand_takes_little_time() -> None:
    rng = np.random.default_rng(7)
    rows = 60_000
    pairs = [*POPULAR, ("openai", "gpt-4o-mini"), ("mistral", "mistral-large-latest"), ("nobody", "own")]
    frame = pl.DataFrame([request(provider=p, model=m) for p, m in pairs], schema=SCHEMA)
    frame = frame[rng.integers(0, len(pairs), rows)].with_columns(
        prompt_tokens=pl.Series(rng.integers(0, 300_000, rows))
    )
    prices = PriceList()
    prices.cost(frame)
    best = min(_seconds(prices, frame) for _ in range(5))
    assert rows / best > 1_000_000  # several times that on an idle machine


def _seconds(prices: PriceList, frame: pl.DataFrame) -> float:
    started = time.perf_counter()
    assert len(prices.cost(frame)) == len(frame)
    return time.perf_counter() - started


def test_the_columns_it_reads_are_those_it_names() -> None:
    assert set(COLUMNS) == set(SCHEMA)
