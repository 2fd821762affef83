"""The recount, by small logs whose outcome is known."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from streams.windows.block import pack_rows
from tests.end_to_end.published import key_of
from tests.end_to_end.recomputation import (
    DAY,
    EPOCH,
    HOUR,
    LATENCIES,
    MINUTE,
    SECOND,
    SUMS,
    Figures,
    Group,
    Record,
)
from tests.faults.mix import Mixer, encode
from tests.faults.recount import (
    QUANTILES,
    Expected,
    Recount,
    Tally,
    compare_blocks,
    compare_history,
    quantile,
    tally,
)
from tests.sinks.making import rows_of

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
    assert len(expected.places) == 2
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


class Ideal:
    """ClickHouse as it should be after `expected`, and what a fault makes of it."""

    def __init__(self, expected: Expected, rebuilt: Iterable[int] = ()) -> None:
        self.expected = expected
        self.rebuilt = set(rebuilt)
        self.events = [(*identity, *values) for identity, values in expected.events.items()]
        self.letters = [(*place, *letter) for place, letter in expected.refused.items()]
        self.windows = [
            *self._rows(expected.streamed, from_raw=False),
            *self._rows(
                {group: one for group, one in expected.once.items() if group.start in self.rebuilt},
                from_raw=True,
            ),
        ]

    def __call__(self, sql: str) -> list[Sequence[Any]]:
        if "FROM events" in sql:
            return list(self.events)
        if "FROM dead_letters" in sql:
            return list(self.letters)
        if "DISTINCT" in sql:
            return [("1m", start // SECOND) for start in self.rebuilt]
        return list(self.windows)

    @staticmethod
    def _rows(table: dict[Group, Figures], *, from_raw: bool) -> Iterable[list[Any]]:
        for group, figures in table.items():
            key = (*group.key, "", "")[:2]
            row: list[Any] = [
                group.pane,
                group.start // SECOND,
                group.grouping,
                *key,
                from_raw,
                *figures.sums,
            ]
            for name in LATENCIES:
                had = figures.latencies.get(name)
                quantiles = [quantile(had, q) if had else math.nan for q in QUANTILES]
                row += (had.count, had.sum, had.min, had.max) if had else (0, 0, None, None)
                row.append(quantiles)
            yield row


@pytest.fixture(scope="module")
def expected() -> Expected:
    """A bit of everything."""
    now = NOON
    mixer = Mixer(5, clock=lambda: now, plain_first=50)
    topic = Topic()
    for number, message in enumerate(mixer.messages(2_000)):
        now = NOON + number * SECOND // 10
        topic.put(message.value, arrived=now, partition=number % 2)
    return topic.recount()


def test_an_ideal_history_differs_in_nothing(expected: Expected) -> None:
    for minutes in (set(), expected.marked):
        ideal = Ideal(expected, minutes)
        assert compare_history(expected, ideal) == []
        assert tally(expected, ideal) == Tally(0, 0)


def test_a_lost_event_and_one_that_is_there_twice(expected: Expected) -> None:
    ideal = Ideal(expected)
    lost, doubled = ideal.events[5], ideal.events[6]
    ideal.events = [*ideal.events[:5], *ideal.events[6:], doubled]
    said = "\n".join(compare_history(expected, ideal))

    assert f"twice: {doubled[0]}" in said
    assert "1 missing, 0 surplus, 0 different" in said
    assert str(lost[0]) in said
    assert tally(expected, ideal) == Tally(lost=1, doubled=1)


def test_an_event_that_is_not_what_was_sent(expected: Expected) -> None:
    ideal = Ideal(expected)
    ideal.events[5] = (*ideal.events[5][:-1], -1)

    assert "0 missing, 0 surplus, 1 different" in compare_history(expected, ideal)[0]


def test_a_record_without_its_dead_letter_and_one_with_another_reason(expected: Expected) -> None:
    ideal = Ideal(expected)
    ideal.letters = [(*ideal.letters[1][:2], "no_reason", *ideal.letters[1][3:]), *ideal.letters[2:]]
    said = "\n".join(compare_history(expected, ideal))

    assert "dead letters: 1 missing, 0 surplus, 1 different" in said
    assert tally(expected, ideal) == Tally(lost=1)


def test_a_request_too_many_in_a_minute_and_a_sketch_that_is_off(expected: Expected) -> None:
    ideal = Ideal(expected)
    (total,) = [row for row in ideal.windows if row[:3] == ["1m", NOON // SECOND, "total"]]
    total[6] += 1
    total[10 + len(SUMS)] = [1.0, 1.0, 1.0]

    assert "windows: 0 missing, 0 surplus, 1 different" in compare_history(expected, ideal)
    assert tally(expected, ideal) == Tally(doubled=1)


def test_of_a_rebuilt_minute_only_what_was_rebuilt_counts(expected: Expected) -> None:
    """The streamed rows of it stay where they are; so it is wrong to have one request less in it."""
    ideal = Ideal(expected, expected.marked)
    minute = min(expected.marked)
    (total,) = [row for row in ideal.windows if row[1:3] == [minute // SECOND, "total"] and row[5]]
    total[6] -= 1

    assert "windows: 0 missing, 0 surplus, 1 different" in compare_history(expected, ideal)
    assert tally(expected, ideal) == Tally(lost=1)


def test_what_was_acknowledged_must_be_on_the_topic(expected: Expected) -> None:
    ideal = Ideal(expected)
    place, (event_id, _) = next(iter(expected.places.items()))
    refused = next(iter(expected.refused))

    assert tally(expected, ideal, {place: event_id, refused: "any"}) == Tally()
    assert tally(expected, ideal, {place: "another", (0, 10**9): "gone"}) == Tally(lost=2)


def published(*blocks: dict[str, Any] | str) -> list[tuple[Record, dict[str, Any] | None]]:
    """Blocks, or the keys of what has expired, as records of chat.windows in that order."""
    return [
        (Record(0, offset, NOON // 1_000, what.encode(), None), None)
        if isinstance(what, str)
        else (Record(0, offset, NOON // 1_000, key_of(what), b"..."), what)
        for offset, what in enumerate(blocks)
    ]


def block(requests: int, offset: int, *, start: int = NOON, **fields: Any) -> dict[str, Any]:
    """A minute of all services, read."""
    rows = rows_of("total", {(): {"requests": requests, "unpriced": requests}})
    return {
        "pane": "1m",
        "pane_start": EPOCH + timedelta(microseconds=start),
        "imported": False,
        "grouping": "total",
        "bucket": 0,
        "partition": 0,
        "since": 0,
        "offset": offset,
        "revision": 0,
        "rows": pack_rows(rows),
        **fields,
    }


@pytest.fixture
def three() -> Expected:
    """Three requests in the minute after noon; only the total of them is looked at."""
    expected = Topic().put(event(1)).put(event(2)).put(event(3)).recount()
    expected.streamed = {
        group: figures for group, figures in expected.streamed.items() if group.grouping == "total"
    }
    return expected


def test_the_newest_block_is_the_one_of_the_highest_offset(three: Expected) -> None:
    assert compare_blocks(three, {"chat.windows": published(block(1, 0), block(3, 2))}) == []
    assert compare_blocks(three, {"chat.windows": published(block(1, 2), block(3, 2, revision=1))}) == []
    said = compare_blocks(three, {"chat.windows": published(block(1, 0), block(2, 1))})
    assert said[0] == "published: 0 missing, 0 surplus, 1 different"


def test_a_late_writers_block_may_not_be_the_last_of_its_key(three: Expected) -> None:
    stale = published(block(3, 2), block(1, 0))
    mended = published(block(3, 2), block(1, 0), block(3, 2))

    assert "is at (0, 0), not (2, 0)" in compare_blocks(three, {"chat.windows": stale})[0]
    assert compare_blocks(three, {"chat.windows": mended}) == []


def test_partitions_imported_blocks_and_later_births_add_up(three: Expected) -> None:
    for fields in ({"partition": 1}, {"imported": True}, {"since": 2}):
        blocks = published(block(2, 1), block(1, 2, **fields))
        assert [
            one for one in compare_blocks(three, {"chat.windows": blocks}) if "last block" not in one
        ] == []


def test_an_expired_block_is_not_missed_but_must_have_been_due(three: Expected) -> None:
    early = published(block(3, 2), f"0|live|1m|{NOON}|total|0")
    said = compare_blocks(three, {"chat.windows": early})
    assert said == [f"chat.windows: 0|live|1m|{NOON}|total|0 was expired 93360 s too early"]

    three.streamed = {
        group._replace(start=NOON - 27 * HOUR): figures for group, figures in three.streamed.items()
    }
    due = published(f"0|live|1m|{NOON - 27 * HOUR}|total|0", f"0|live|1s|{NOON}|total|0")
    assert compare_blocks(three, {"chat.windows": due}) == []


def test_a_minute_that_is_missing_or_nobody_asked_for(three: Expected) -> None:
    blocks = published(block(3, 2), block(1, 2, start=NOON + MINUTE))

    assert compare_blocks(three, {"chat.windows": []})[0] == "published: 1 missing, 0 surplus, 0 different"
    assert compare_blocks(three, {"chat.windows": blocks})[0].endswith("0 missing, 1 surplus, 0 different")
