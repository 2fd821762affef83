"""The expectation, by small logs whose outcome is known."""

from typing import Any

import pytest

from tests.end_to_end.log import Record
from tests.end_to_end.recomputation import DAY, HOUR, MINUTE, SECOND, SUMS, Figures, Group
from tests.faults.expectation import Expected, Recount
from tests.faults.mix import encode

NOON = 1_770_206_400_000_000
"""2026-02-04 12:00, UTC."""


def event(number: int = 0, at: int = NOON, **fields: Any) -> dict[str, Any]:
    """A finished request."""
    return {
        "event_id": f"e-{number}",
        "request_id": f"r-{number}",
        "phase": "finished",
        "occurred_at": at,
        "service": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        **fields,
    }


class Topic:
    """chat.requests, written by hand."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def put(
        self, what: dict[str, Any] | bytes | None, *, arrived: int | None = None, partition: int = 0
    ) -> "Topic":
        value = encode(what) if isinstance(what, dict) else what
        if arrived is None:
            arrived = what["occurred_at"] if isinstance(what, dict) else NOON
        offset = sum(record.partition == partition for record in self.records)
        self.records.append(Record(partition, offset, arrived // 1_000, b"key", value))
        return self

    def recount(self) -> Expected:
        recounting = Recount()
        for record in self.records:
            recounting.take(record)
        return recounting.expected


def requests(table: dict[Group, Figures]) -> dict[int, int]:
    """Of all services, by minutes after noon."""
    return {
        (group.start - NOON) // MINUTE: figures.sums[0]
        for group, figures in table.items()
        if (group.pane, group.grouping) == ("1m", "total")
    }


def test_a_repeat_counts_once() -> None:
    expected = Topic().put(event()).put(event()).put(event(1)).put(event()).recount()

    assert requests(expected.streamed) == requests(expected.once) == {0: 2}
    assert expected.repeats == {(0, 1), (0, 3)}
    assert len(expected.events) == 2


def test_a_repeat_is_the_same_id_at_the_same_instant() -> None:
    expected = Topic().put(event()).put(event(at=NOON + 1)).recount()

    assert requests(expected.streamed) == requests(expected.once) == {0: 2}


@pytest.mark.parametrize(
    ("latest", "known"),
    [(5 * MINUTE, True), (6 * MINUTE - 1, True), (6 * MINUTE, False), (HOUR, False)],
)
def test_repeats_are_known_for_five_minutes_by_the_minute(latest: int, known: bool) -> None:
    topic = Topic().put(event()).put(event(1, NOON + latest)).put(event(), arrived=NOON + latest)
    expected = topic.recount()

    assert requests(expected.streamed)[0] == (1 if known else 2)
    assert requests(expected.once)[0] == 1
    assert bool(expected.repeats) is known


def test_the_latest_is_that_of_the_requests_before_the_repeat() -> None:
    """Its own arrival says nothing."""
    expected = Topic().put(event()).put(event(), arrived=NOON + HOUR).recount()

    assert requests(expected.streamed) == {0: 1}


def test_a_clock_that_is_ahead_ends_no_horizon() -> None:
    """An event of four minutes later that arrives now makes it no later than now."""
    topic = Topic().put(event()).put(event(1, NOON + 4 * MINUTE), arrived=NOON)
    topic.put(event(2, NOON + 5 * MINUTE), arrived=NOON + 2 * MINUTE).put(event(), arrived=NOON + 2 * MINUTE)
    expected = topic.recount()

    assert expected.repeats == {(0, 3)}


def test_late_repeats_beyond_the_horizon_are_counted_by_the_streams_every_time() -> None:
    topic = Topic().put(event(1, NOON + HOUR))
    for _ in range(3):
        topic.put(event(), arrived=NOON + HOUR)
    expected = topic.recount()

    assert requests(expected.streamed) == {0: 3, 60: 1}
    assert requests(expected.once) == {0: 1, 60: 1}
    assert expected.marked == {NOON}


def test_other_partitions_know_nothing() -> None:
    expected = Topic().put(event()).put(event(), partition=1).recount()

    assert requests(expected.streamed) == {0: 2}
    assert requests(expected.once) == {0: 1}
    assert expected.records == len(expected.places) == 2
    assert len(expected.events) == 1


def test_imported_requests_are_not_checked_and_not_remembered() -> None:
    topic = Topic().put(event(imported=True)).put(event(imported=True)).put(event()).put(event())
    expected = topic.recount()

    assert requests(expected.streamed) == {0: 3}
    assert requests(expected.once) == {0: 1}
    assert expected.repeats == {(0, 3)}
    assert expected.marked == {NOON}


def test_imported_requests_move_no_horizon() -> None:
    topic = Topic().put(event()).put(event(1, NOON + HOUR, imported=True)).put(event())

    assert topic.recount().repeats == {(0, 2)}


def test_starts_and_what_is_refused_are_no_first_sight_and_move_no_horizon() -> None:
    topic = Topic().put(event(phase="started")).put(event(prompt_tokens=-1))
    topic.put(event(1, NOON + HOUR, phase="started")).put(event(2, NOON + HOUR, model=""))
    expected = topic.put(event(), arrived=NOON).put(event(), arrived=NOON).recount()

    assert requests(expected.streamed) == {0: 1}
    assert expected.repeats == {(0, 5)}
    assert {letter.reason for letter in expected.refused.values()} == {"invalid"}


def test_what_is_too_late_is_in_no_minute_of_the_streams_but_in_its_day_and_in_history() -> None:
    topic = Topic().put(event(at=NOON + 2 * DAY)).put(event(1, space_id="s"), arrived=NOON + 2 * DAY)
    expected = topic.recount()

    assert requests(expected.streamed).keys() == {2 * 24 * 60}
    assert expected.streamed[Group("1d", NOON - 12 * HOUR, "space", ("s",))].sums[0] == 1
    assert requests(expected.once).keys() == {0, 2 * 24 * 60}
    assert expected.too_late == {(0, 1)}
    assert expected.marked == {NOON}


def test_the_last_microsecond_that_is_not_too_late() -> None:
    """A minute is kept 26 hours after its end; the watermark is ten seconds behind the latest."""
    end = NOON + MINUTE + 26 * HOUR + 10 * SECOND
    in_time = Topic().put(event(1, end - 1)).put(event(), arrived=end).recount()
    too_late = Topic().put(event(1, end)).put(event(), arrived=end).recount()

    assert (in_time.too_late, too_late.too_late) == (set(), {(0, 1)})


def test_refused_is_what_arrives_five_minutes_before_it_occurs() -> None:
    expected = Topic().put(event(at=NOON), arrived=NOON - 5 * MINUTE).recount()
    refused = Topic().put(event(at=NOON + 1), arrived=NOON - 5 * MINUTE).recount()

    assert not expected.refused
    assert [letter.reason for letter in refused.refused.values()] == ["in_the_future"]


def test_what_is_charged_listed_free_and_unknown() -> None:
    topic = Topic().put(event(1, cost_nano_usd=7))
    topic.put(event(2, prompt_tokens=1_000, cached_tokens=300, completion_tokens=100))
    topic.put(event(3, error_type="timeout")).put(event(4, prompt_tokens=10))
    topic.put(event(5, provider="house", prompt_tokens=10, completion_tokens=1))
    expected = topic.recount()

    figures = dict(zip(SUMS, expected.streamed[Group("1m", NOON, "total", ())].sums, strict=True))
    listed = 700 * 2_500 + 300 * 1_250 + 100 * 10_000  # gpt-4o: 2.50, 1.25 and 10 USD per million
    assert figures["cost_nano_usd"] == 7 + listed
    assert (figures["unpriced"], figures["errors"], figures["requests"]) == (2, 1, 5)


def test_a_minute_is_marked_by_what_arrives_five_minutes_after_it_occurred() -> None:
    topic = Topic().put(event(1), arrived=NOON + 5 * MINUTE - 1_000)
    assert topic.recount().marked == set()
    assert topic.put(event(2), arrived=NOON + 5 * MINUTE).recount().marked == {NOON}
