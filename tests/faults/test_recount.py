"""The comparisons: what is lost, doubled or otherwise than expected is told."""

import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from streams.windows.block import pack_rows
from tests.end_to_end.log import Record
from tests.end_to_end.published import key_of
from tests.end_to_end.recomputation import DAY, EPOCH, HOUR, LATENCIES, MINUTE, SECOND, SUMS, Figures, Group
from tests.faults.expectation import Recount
from tests.faults.history import QUANTILES, quantile
from tests.faults.mix import Mixer
from tests.faults.recount import (
    Expected,
    Tally,
    compare_blocks,
    compare_history,
    not_rebuilt,
    tally,
)
from tests.sinks.making import rows_of

NOON = 1_770_206_400_000_000
"""2026-02-04 12:00, UTC."""


class Ideal:
    """ClickHouse as it should be after `expected`, and what a fault makes of it."""

    def __init__(self, expected: Expected, rebuilt: Iterable[int] = ()) -> None:
        self.rebuilt = {minute: expected.arrived[minute] for minute in rebuilt}
        self.events = [(*identity, *values) for identity, values in expected.events.items()]
        self.letters = [(*place, *letter) for place, letter in expected.refused.items()]
        self.windows = [
            self._row(group, figures)
            for table, is_rebuilt in ((expected.streamed, False), (expected.once, True))
            for group, figures in table.items()
            if group.pane == "1m" and (group.start in self.rebuilt) is is_rebuilt
        ]

    def __call__(self, sql: str) -> list[Sequence[Any]]:
        if "FROM events" in sql:
            return list(self.events)
        if "FROM dead_letters" in sql:
            return list(self.letters)
        if "FROM rebuilt_minutes" in sql:
            return [(minute // SECOND, records) for minute, records in self.rebuilt.items()]
        if "FROM tokens_by_space" in sql:
            return self._days("space")
        return self._days("user") if "FROM tokens_by_user" in sql else list(self.windows)

    def _days(self, grouping: str) -> list[Sequence[Any]]:
        days: dict[tuple[int, str], list[int]] = {}
        for start, kind, key, _, requests, errors, *_ in self.windows:
            if kind == grouping:
                day = days.setdefault((start * SECOND // DAY, key), [0, 0])
                day[0] += requests
                day[1] += errors
        return [(*which, *figures) for which, figures in days.items()]

    @staticmethod
    def _row(group: Group, figures: Figures) -> list[Any]:
        key = (*group.key, "", "")[:2]
        row: list[Any] = [group.start // SECOND, group.grouping, *key, *figures.sums]
        for name in LATENCIES:
            had = figures.latencies.get(name)
            row += (had.count, had.sum, had.min, had.max) if had else (0, 0, None, None)
            row.append([quantile(had, q) if had else math.nan for q in QUANTILES])
        return row


@pytest.fixture(scope="module")
def expected() -> Expected:
    """A bit of everything."""
    now = NOON
    mixer = Mixer(5, clock=lambda: now, plain_first=50)
    recounting = Recount()
    for offset, message in enumerate(mixer.messages(2_000)):
        now = NOON + offset * SECOND // 10
        recounting.take(Record(offset % 2, offset, now // 1_000, message.key, message.value))
    return recounting.expected


def test_an_ideal_history_differs_in_nothing(expected: Expected) -> None:
    for minutes in (set(), expected.marked):
        ideal = Ideal(expected, minutes)
        assert compare_history(expected, ideal, NOON) == []
        assert tally(expected, ideal) == Tally(0, 0)


def test_a_lost_event_and_one_that_is_there_twice(expected: Expected) -> None:
    ideal = Ideal(expected)
    lost, doubled = ideal.events[5], ideal.events[6]
    ideal.events = [*ideal.events[:5], *ideal.events[6:], doubled]
    said = "\n".join(compare_history(expected, ideal, NOON))

    assert f"twice: {doubled[0]}" in said
    assert "1 missing, 0 surplus, 0 different" in said
    assert str(lost[0]) in said
    assert tally(expected, ideal) == Tally(lost=1, doubled=1)


def test_an_event_that_is_not_what_was_sent(expected: Expected) -> None:
    ideal = Ideal(expected)
    ideal.events[5] = (*ideal.events[5][:-1], -1)

    assert "0 missing, 0 surplus, 1 different" in compare_history(expected, ideal, NOON)[0]


def test_a_record_without_its_dead_letter_and_one_with_another_reason(expected: Expected) -> None:
    ideal = Ideal(expected)
    ideal.letters = [(*ideal.letters[1][:2], "no_reason", *ideal.letters[1][3:]), *ideal.letters[2:]]
    said = "\n".join(compare_history(expected, ideal, NOON))

    assert "dead letters: 1 missing, 0 surplus, 1 different" in said
    assert tally(expected, ideal) == Tally(lost=1)


def test_a_request_too_many_in_a_minute_and_a_sketch_that_is_off(expected: Expected) -> None:
    ideal = Ideal(expected)
    (total,) = [row for row in ideal.windows if row[:2] == [NOON // SECOND, "total"]]
    total[4] += 1
    total[4 + len(SUMS) + 4] = [1.0, 1.0, 1.0]

    assert "windows: 0 missing, 0 surplus, 1 different" in compare_history(expected, ideal, NOON)
    assert tally(expected, ideal) == Tally(doubled=1)


def test_days_are_the_sums_of_their_minutes(expected: Expected) -> None:
    ideal = Ideal(expected)
    days = ideal._days

    ideal._days = lambda grouping: [*days(grouping)[1:]]  # type: ignore[method-assign]
    assert "days: 2 missing, 0 surplus, 0 different" in compare_history(expected, ideal, NOON)


def is_total(group: Group) -> bool:
    return (group.pane, group.grouping) == ("1m", "total")


def test_of_a_rebuilt_minute_each_identity_counts_once(expected: Expected) -> None:
    """It was rebuilt, and yet it holds what the streams had of it."""
    ideal = Ideal(expected, expected.marked)
    streamed = Ideal(expected)
    ideal.windows = streamed.windows
    first, *_, last = (
        line for line in compare_history(expected, ideal, NOON) if line.startswith("windows: ")
    )
    off = tally(expected, ideal)

    assert " different" in first
    assert last != first
    once, counted = (
        sum(
            figures.sums[0]
            for group, figures in table.items()
            if group.start in expected.marked and is_total(group)
        )
        for table in (expected.once, expected.streamed)
    )
    assert off.doubled > 0
    assert off.doubled - off.lost == counted - once


def test_minutes_wait_that_are_marked_or_of_which_more_has_come(expected: Expected) -> None:
    """And until they are rebuilt, the latter aren't compared."""
    minutes = {minute for minute in expected.marked if minute >= NOON - HOUR}
    never, stale = min(minutes), max(minutes)
    ideal = Ideal(expected, expected.marked - {never})
    (total,) = [row for row in ideal.windows if row[:2] == [stale // SECOND, "total"]]
    total[4] -= 1
    assert compare_history(expected, ideal, NOON) != []
    ideal.rebuilt[stale] -= 1

    assert not_rebuilt(expected, Ideal(expected, expected.marked)) == set()
    assert not_rebuilt(expected, ideal) == {never, stale}
    assert not_rebuilt(expected, ideal, before=stale) == {never}
    assert compare_history(expected, ideal, NOON) == []
    assert tally(expected, ideal) == Tally(0, 0)
    late = compare_history(expected, ideal, NOON + 30 * MINUTE)
    assert late == [f"rebuilding: 2 minutes are overdue: [{never}, {stale}]"]


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
    """Three requests in the minute after noon, unpriced; only their total is looked at."""
    return Expected({Group("1m", NOON, "total", ()): Figures([3, 0, 0, 0, 0, 0, 0, 0, 3])})


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
