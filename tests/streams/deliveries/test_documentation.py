"""What the guide shows is what the product takes."""

import json
import re
from pathlib import Path

import pytest

from streams.deliveries.endpoint import Endpoint, parse_endpoint
from streams.deliveries.outcome import Outcome
from streams.deliveries.subscription import SUBSCRIBABLE, Subscription

_GUIDE = (Path(__file__).parents[3] / "docs" / "endpoints.md").read_text(encoding="utf-8")
_EXAMPLES = re.findall(r"```json\n(.*?)```", _GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", _EXAMPLES)
def test_every_example_is_an_endpoint(example: str) -> None:
    assert parse_endpoint(json.loads(example)).subscriptions


def test_the_guide_names_every_field_type_and_outcome() -> None:
    fields = [*Endpoint.model_fields, *Subscription.model_fields]
    for name in [*fields, *SUBSCRIBABLE, *Outcome]:
        assert f"`{name}`" in _GUIDE, name
