"""Costs, whatever the tokens: never negative, never less for more, and unknown is never free."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.counting.pricing import PriceList
from tests.streams.counting.test_pricing import POPULAR, costs, request

PRICES = PriceList()
tokens = st.integers(0, 10**6)
flat = st.sampled_from([("openai", "gpt-4o"), ("openai", "gpt-4o-mini"), ("deepseek", "deepseek-chat")])


def usage(prompt: int, cached: int, completion: int, reasoning: int) -> dict[str, Any]:
    """Parts are no larger than the whole."""
    return {
        "prompt_tokens": prompt,
        "cached_tokens": min(cached, prompt),
        "completion_tokens": completion,
        "reasoning_tokens": min(reasoning, completion),
    }


def priced(*requests: dict[str, Any]) -> list[Any]:
    return costs(requests, PRICES)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(POPULAR), tokens, tokens, tokens, tokens, tokens)
def test_more_tokens_never_cost_less(
    model: tuple[str, str], prompt: int, cached: int, completion: int, reasoning: int, more: int
) -> None:
    spent = usage(prompt, cached, completion, reasoning)
    of = request(provider=model[0], model=model[1], **spent)
    base, longer, wordier = priced(
        of,
        of | {"prompt_tokens": prompt + more},
        of | {"completion_tokens": completion + more},
    )
    assert 0 <= base <= longer
    assert base <= wordier


@settings(max_examples=50, deadline=None)
@given(flat, tokens, tokens, tokens)
def test_reading_from_the_cache_never_costs_more(
    model: tuple[str, str], prompt: int, cached: int, completion: int
) -> None:
    of = request(provider=model[0], model=model[1], prompt_tokens=prompt, completion_tokens=completion)
    fresh, warm = priced(of, of | {"cached_tokens": min(cached, prompt)})
    assert warm <= fresh


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(POPULAR), tokens, tokens), min_size=1, max_size=20), st.data())
def test_what_a_request_costs_does_not_depend_on_those_beside_it(
    many: list[Any], data: st.DataObject
) -> None:
    requests = [
        request(provider=provider, model=model, prompt_tokens=prompt, completion_tokens=completion)
        for (provider, model), prompt, completion in many
    ]
    order = data.draw(st.permutations(range(len(requests))))
    together = priced(*requests)
    assert [together[at] for at in order] == priced(*(requests[at] for at in order))
    assert together == [cost for one in requests for cost in priced(one)]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["openai", "anthropic", "nobody", "", "unknown"]),
    st.text(max_size=20).map(lambda text: f"no-such-model-{text}"),
    st.none() | tokens,
    st.none() | tokens,
)
def test_what_is_unknown_is_unpriced_and_not_free(
    provider: str, model: str, prompt: int | None, completion: int | None
) -> None:
    unknown = request(provider=provider, model=model, prompt_tokens=prompt, completion_tokens=completion)
    known = request(prompt_tokens=None, completion_tokens=completion)
    assert priced(unknown, known) == [None, None]
    said = unknown | {"cost_nano_usd": 7}
    assert priced(said) == [7]
