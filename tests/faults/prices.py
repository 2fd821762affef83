"""What a request cost, asked of the price list one request at a time."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN
from functools import lru_cache
from typing import Any

from genai_prices import Usage, calc_price


def price_of(event: Mapping[str, Any]) -> int | None:
    """In nano-USD: as charged, else by the list; nothing for what failed without tokens. None: unknown."""
    if event["cost_nano_usd"] is not None:
        charged: int = event["cost_nano_usd"]
        return charged
    prompt, completion = event["prompt_tokens"], event["completion_tokens"]
    if event["error_type"] is not None and not prompt and not completion:
        return 0
    if prompt is None or completion is None:
        return None
    cached, reasoning = event["cached_tokens"] or 0, event["reasoning_tokens"] or 0
    return _listed(
        event["provider"], event["model"], event["occurred_at"].date(), prompt, cached, completion, reasoning
    )


@lru_cache(maxsize=200_000)
def _listed(
    provider: str, model: str, day: Any, prompt: int, cached: int, completion: int, reasoning: int
) -> int | None:
    usage = Usage(
        input_tokens=prompt,
        cache_read_tokens=cached,
        output_tokens=completion,
        output_reasoning_tokens=reasoning,
    )
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    try:
        usd = calc_price(usage, model, provider_id=provider, genai_request_timestamp=noon).total_price
    except LookupError:
        return None
    return int((usd * 10**9).to_integral_value(ROUND_HALF_EVEN))
