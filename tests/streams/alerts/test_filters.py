"""A filter takes the groups whose keys match one value each, and nothing else."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.alerts.filters import pattern, selects
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.rule import parse_rule
from tests.streams.alerts.rules import THRESHOLD

MODELS = pl.DataFrame(
    {
        "provider": ["openai", "openai", "anthropic", "azure"],
        "model": ["gpt-4o", "gpt-4o-mini", "claude", "gpt-4o"],
    }
)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ({}, [0, 1, 2, 3]),
        ({"model": ["gpt-4o"]}, [0, 3]),
        ({"model": ["gpt-4o*"]}, [0, 1, 3]),
        ({"model": ["*mini", "claude"]}, [1, 2]),
        ({"model": ["*"]}, [0, 1, 2, 3]),
        ({"model": ["gpt*"], "provider": ["openai"]}, [0, 1]),
        ({"model": ["gpt.4o"]}, []),
        ({"model": ["gpt.4*"]}, []),
        ({"model": ["4o"]}, []),
    ],
)
def test_groups_are_taken_by_their_keys(wanted: dict[str, list[str]], taken: list[int]) -> None:
    rule = parse_rule(THRESHOLD | {"grouping": "model", "filter": wanted})
    assert isinstance(rule, GroupedRule)
    found = MODELS.with_row_index().filter(rule.selects())
    assert found["index"].to_list() == taken


def test_the_total_without_keys_is_taken() -> None:
    assert pl.DataFrame({"requests": [1]}).filter(selects({})).height == 1


_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=100, deadline=None)
@given(_text, _text, _text)
def test_a_pattern_takes_what_its_stars_stand_for_whatever_the_signs(a: str, b: str, between: str) -> None:
    wanted = pattern([f"{a.replace('*', '')}*{b.replace('*', '')}"])
    named, other = a.replace("*", "") + between + b.replace("*", ""), f"~{a}"
    texts = pl.Series([named, other])
    expected = [re.search(wanted, text) is not None for text in (named, other)]
    assert expected[0]
    assert texts.str.contains(wanted).to_list() == expected
    assert pl.DataFrame({"key": texts}).filter(selects({"key": [named]}))["key"].to_list()[0] == named
