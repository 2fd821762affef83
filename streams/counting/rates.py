"""What a model's tokens cost: the price list of genai-prices, unfolded into integers.

A price of the list may depend on the day (a price cut), the hour (off-peak) and the length of the prompt
(tiers). `rates_of` unfolds all of that once per model into rows of integers, in pico-USD (10^-12 USD),
which hold every price of the list exactly: a price per million tokens has at most six decimals.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import (
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

UNPRICED = -1
"""Stands for «the list has no such price»."""

HIGHEST_RATES = (*[3 * 10**9] * 4, 10**18)
"""Pico-USD, by component: 3,000 USD per million tokens. Above them, sums could leave 64 bits."""

_PICO_PER_TOKEN = 10**6  # 1 USD per million tokens
_PICO_PER_REQUEST = 10**9  # 1 USD per thousand requests

_NO_TIER = -1
_DAY = timedelta(days=1)
_DAY_US = _DAY // timedelta(microseconds=1)
_EPOCH = date(1970, 1, 1)

# How instrumentation spells the providers that the list's own rules would miss or mistake,
# after lower-casing and turning every other sign into one hyphen (OpenTelemetry, LangChain, LiteLLM).
_SPELLINGS = {
    "aws-bedrock": "aws",
    "az-ai-inference": "azure",
    "az-ai-openai": "azure",
    "azure-ai": "azure",
    "azure-ai-inference": "azure",
    "azure-ai-openai": "azure",
    "azure-openai": "azure",
    "azureopenai": "azure",
    "bedrock-converse": "aws",
    "fireworks-ai": "fireworks",
    "gcp-gen-ai": "google",
    "groq-cloud": "groq",
    "perplexity-ai": "perplexity",
    "together-ai": "together",
    "togetherai": "together",
    "x-ai": "x-ai",
}


@dataclass(frozen=True)
class Rates:
    """The prices of one model, as rows of pico-USD.

    `rows[(day * (len(hours) + 1) + hour) * (len(tiers) + 1) + tier]` holds the prices of prompt tokens,
    of cached ones, of completion tokens, of reasoning ones, each per token, and of the request itself;
    `UNPRICED` where the list has none. `day`, `hour` and `tier` are how many of the boundaries lie at or
    before the event (for tiers: strictly below its prompt's tokens).
    """

    days_us: Sequence[int]
    """Where prices change, in microseconds since 1970 (UTC)."""
    hours_us: Sequence[int]
    """Where prices change within a day, in microseconds since midnight (UTC)."""
    tiers: Sequence[int]
    """Prompt lengths beyond which other prices hold."""
    rows: Sequence[tuple[int, int, int, int, int]]


def rates_of(providers: list[Provider], provider: str, model: str) -> Rates | None:
    """The rates of `model` at `provider`, or None where the list does not know one of them.

    An unknown provider is not guessed from the model's name: the same open model costs ten times as much
    here as there, and a figure that is missing is more honest than one that is made up.
    """
    if provider.strip().lower() == "litellm" and "/" in model:
        provider, model = model.split("/", 1)
    seller = _find_provider(providers, provider)
    found = seller.find_model(model, all_providers=providers) if seller else None
    return _unfold(found) if found else None


def _find_provider(providers: list[Provider], name: str) -> Provider | None:
    spelling = re.sub(r"[^a-z0-9]+", "-", name.strip().lower()).strip("-")
    return find_provider_by_id(providers, _SPELLINGS.get(spelling, name))


def _unfold(model: ModelInfo) -> Rates | None:
    conditional = [] if isinstance(model.prices, ModelPrice) else model.prices
    constraints = [price.constraint for price in conditional]
    days = sorted({c.start_date for c in constraints if isinstance(c, StartDateConstraint)})
    hours = sorted(
        {
            _of_day_us(edge)
            for c in constraints
            if isinstance(c, TimeOfDateConstraint)
            for edge in (c.start_time, c.end_time)
        }
        - {0}
    )
    # One moment inside each stretch between two boundaries stands for the whole stretch.
    moments = [
        datetime.combine(day, time(), UTC) + timedelta(microseconds=hour)
        for day in [days[0] - _DAY if days else _EPOCH, *days]
        for hour in [0, *hours]
    ]
    prices = [model.get_prices(moment) for moment in moments]
    tiers = sorted({tier.start for price in prices for tiered in _tiered(price) for tier in tiered.tiers})
    rows = [_row(price, start) for price in prices for start in [_NO_TIER, *tiers]]
    if any(rate > highest for row in rows for rate, highest in zip(row, HIGHEST_RATES, strict=True)):
        return None
    return Rates([(day - _EPOCH).days * _DAY_US for day in days], hours, tiers, rows)


def _of_day_us(moment: time) -> int:
    """Microseconds since midnight UTC; a time without a zone is UTC, as in the list."""
    at = datetime.combine(_EPOCH, moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) % _DAY_US


def _tiered(price: ModelPrice) -> Iterable[TieredPrices]:
    listed = (price.input_mtok, price.cache_read_mtok, price.output_mtok, price.output_reasoning_mtok)
    return (value for value in listed if isinstance(value, TieredPrices))


def _row(price: ModelPrice, above: int) -> tuple[int, int, int, int, int]:
    """The prices for prompts just longer than the tier boundary `above`, or below them all.

    Without a price of their own, cached tokens cost what prompt tokens do, and reasoning tokens what
    completion tokens do. A request costs nothing by itself unless the list says so.
    """
    prompt = _pico(price.input_mtok, _PICO_PER_TOKEN, above)
    completion = _pico(price.output_mtok, _PICO_PER_TOKEN, above)
    cached = _pico(price.cache_read_mtok, _PICO_PER_TOKEN, above, default=prompt)
    reasoning = _pico(price.output_reasoning_mtok, _PICO_PER_TOKEN, above, default=completion)
    request = _pico(price.requests_kcount, _PICO_PER_REQUEST, above, default=0)
    if prompt == completion == UNPRICED:  # priced by the hour, the page, the image
        request = UNPRICED
    return prompt, cached, completion, reasoning, request


def _pico(price: Decimal | TieredPrices | None, scale: int, above: int, default: int = UNPRICED) -> int:
    if price is None:
        return default
    if isinstance(price, TieredPrices):
        reached = [tier.price for tier in price.tiers if tier.start <= above]
        price = reached[-1] if reached else price.base
    # A few prices of the list carry the noise of binary fractions far behind the sixth decimal.
    return int((price * scale).to_integral_value())
