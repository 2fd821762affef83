"""Data directories of earlier versions start with this one, without a step by hand, and answer as before."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.end_to_end.stack import Stack
from tests.upgrade.state import (
    SETTINGS,
    STATES,
    Answers,
    alerting,
    definitions,
    differences,
    figures,
    names,
    unpack,
    within_bounds,
)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=names())
def upgraded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Stack, Answers]]:
    """This version on a directory of an earlier one, and what that one answered."""
    stack = Stack(tmp_path_factory.mktemp("upgraded"), SETTINGS)
    answers = unpack(STATES / f"{request.param}.tar.xz", stack.data)
    try:
        stack.start()
        yield stack, answers
    finally:
        stack.stop()
        stack.api.close()


def test_it_answers_as_before(upgraded: tuple[Stack, Answers]) -> None:
    stack, answers = upgraded
    begin, until = (datetime.fromisoformat(answers[name]) for name in ("begin", "until"))

    stack.wait_until_settled()

    assert differences(within_bounds(answers["figures"]), figures(stack, begin, until)) == []


def test_what_was_raised_and_delivered_is_there(upgraded: tuple[Stack, Answers]) -> None:
    stack, answers = upgraded

    now = alerting(stack, datetime.fromisoformat(answers["end"]))

    assert all(now.values())
    assert differences(answers["alerting"], now) == []


def test_what_people_have_set_up_is_there(upgraded: tuple[Stack, Answers]) -> None:
    stack, answers = upgraded

    assert differences(answers["definitions"], definitions(stack)) == []
