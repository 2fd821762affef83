"""What history may be asked, and where the steps of time lie."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from api.errors import BadParameterError
from api.history.question import MAX_STEPS, UNITS, Aggregation, Kind, Question, ask
from api.history.sql import overall, series
from api.live.state import Include
from api.times import parse_span, parse_time, to_time
from schemas.time import DAY, HOUR, MINUTE
from streams.windows.periods import Period
from tests.api.blocks import NOON


def question(**changes: Any) -> Question:
    asked: dict[str, Any] = {
        "kind": Kind.REQUESTS,
        "aggregation": None,
        "measure": None,
        "grouping": "total",
        "key": (),
        "include": Include.ALL,
        "step": Period.MINUTE,
        "zone": ZoneInfo("UTC"),
        "start": NOON,
        "end": NOON + HOUR,
        "limit": 10,
    }
    return ask(**(asked | changes))


def test_bounds_move_outwards_to_whole_steps() -> None:
    asked = question(start=NOON + 1, end=NOON + HOUR + 1, step=Period.FIVE_MINUTES)
    assert (asked.start, asked.end) == (NOON, NOON + HOUR + 5 * MINUTE)
    assert len(asked.steps()) == 13


def test_days_begin_at_midnight_of_the_zone_and_may_have_23_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = parse_time("2026-03-28T12:00:00Z", "start")
    asked = question(zone=berlin, step=Period.DAY, start=start, end=start + 2 * DAY)
    assert [to_time(s).isoformat() for s, _ in asked.steps()] == [
        "2026-03-27T23:00:00+00:00",
        "2026-03-28T23:00:00+00:00",
        "2026-03-29T22:00:00+00:00",
    ]
    assert [(end - begin) // HOUR for begin, end in asked.steps()] == [24, 23, 24]


@pytest.mark.parametrize("kind", list(Kind))
def test_each_kind_has_its_aggregations_and_refuses_others(kind: Kind) -> None:
    for aggregation in Aggregation:
        if aggregation in UNITS[kind]:
            assert question(kind=kind, aggregation=aggregation).unit
        else:
            with pytest.raises(BadParameterError, match="use one of") as refused:
                question(kind=kind, aggregation=aggregation)
            assert refused.value.where == "aggregation"


@pytest.mark.parametrize(
    ("changes", "where", "advice"),
    [
        ({"start": NOON + 2 * HOUR}, "start", "before end"),
        ({"end": NOON + 2 * DAY}, "step", "use step=5m"),
        ({"end": NOON + 5000 * DAY}, "step", "shorter range"),
        ({"kind": Kind.LATENCY, "grouping": "user"}, "grouping", "another grouping"),
        ({"kind": Kind.LATENCY, "measure": "prompt"}, "measure", "use one of total"),
        ({"measure": "total"}, "measure", "leave it out"),
        ({"key": ("x",)}, "key", "takes no key"),
        ({"grouping": "model", "key": ("a", "b", "c")}, "key", "provider, model"),
    ],
)
def test_what_can_not_be_answered_is_refused_with_what_to_do(
    changes: dict[str, Any], where: str, advice: str
) -> None:
    with pytest.raises(BadParameterError, match=advice) as refused:
        question(**changes)
    assert refused.value.where == where


def test_the_longest_answers_are_bounded() -> None:
    assert len(question(end=NOON + MAX_STEPS * MINUTE).steps()) == MAX_STEPS


def test_what_a_caller_wrote_is_never_in_the_text_of_a_query() -> None:
    asked = question(grouping="model", key=("'; DROP TABLE windows; --", "{x:String}"))
    for query in (overall(asked), series(asked, [("'k", "\\")])):
        assert "DROP" not in query.text
        assert "{x" not in query.text
        assert query.parameters["key1"] == "'; DROP TABLE windows; --"


@pytest.mark.parametrize("text", ["", "5", "m", "0m", "-5m", "5 m", "5M", "1e3s", "9999999s"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(BadParameterError):
        parse_span(text, "window")


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_time("2026-05-04T12:00:00", "at") == NOON
    assert parse_time("2026-05-04T14:00:00+02:00", "at") == NOON
    assert parse_time("2026-05-04T14:00:00 02:00", "at") == NOON
    with pytest.raises(BadParameterError):
        parse_time("noon", "at")
