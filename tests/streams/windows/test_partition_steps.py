"""The windows of a partition step by step: what is counted, closed and corrected, when."""

from dataclasses import replace
from typing import NamedTuple

import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.catalogue.groupings import TOTAL
from streams.windows.block import BlockKey
from streams.windows.plan import Plan
from tests.streams.windows.partitions import (
    BOTH,
    BY_MINUTE,
    DAYS,
    MINUTES,
    SECONDS,
    count,
    fresh,
    written,
)
from tests.streams.windows.requests import NOON, frame, request
from tests.streams.windows.test_partition import Store


class Head(NamedTuple):
    """A block that was written."""

    key: BlockKey
    pane_end: int
    offset: int
    watermark: int
    closed: bool
    remembers_from: int


def head(offset: int, remembers_from: int = -1, watermark: int = NOON, minute: int = -5) -> Head:
    start = NOON + minute * MINUTE
    key = BlockKey(0, False, "1m", start, "total", 0)
    return Head(key, start + MINUTE, offset, watermark, True, remembers_from)


def test_before_anything_came_nothing_is_counted_and_all_is_whole() -> None:
    windows = fresh()
    assert (windows.watermark, windows.offset, windows.whole) == (0, -1, True)
    assert windows.due(NOON) is False
    step = windows.advance(NOON)
    assert (step.blocks, step.closed, step.complete, windows.watermark) == ([], [], True, NOON - 10 * SECOND)


def test_the_watermark_follows_the_latest_event_and_never_goes_back() -> None:
    windows = fresh()
    count(windows, [request(0, NOON + 5), request(1, NOON + 1)])
    assert (windows.watermark, windows.offset) == (NOON + 5 - 10 * SECOND, 1)
    count(windows, [request(2, NOON - MINUTE)], through=7)
    assert (windows.watermark, windows.offset) == (NOON + 5 - 10 * SECOND, 7)
    windows.advance(NOON)
    assert windows.watermark == NOON + 5 - 10 * SECOND
    windows.wait(NOON + HOUR)
    assert windows.watermark == NOON + 5 - 10 * SECOND
    windows.advance(NOON + HOUR)
    assert (windows.watermark, windows.offset) == (NOON + HOUR - 10 * SECOND, 7)


@pytest.mark.parametrize(
    ("heads", "committed", "reading_from"),
    [
        ([], 7, 7),
        ([head(10, 3)], 11, 3),
        ([head(10, 3)], 2, 2),
        ([head(10, 0)], 11, 0),
        ([head(10, -1)], 11, 11),
        ([head(10, 3), head(20, 8)], 21, 8),
        ([head(20, 8), head(10, 3)], 21, 8),
        ([head(10, 3), head(20, 8)], 20, 3),
        ([head(10, 3), head(20, 8)], 15, 3),
        ([head(10, 3), head(20, 8)], 10, 3),
        ([head(30, 8), head(40, 5)], 10, 5),
        ([head(10, -1), head(20, 8)], 15, 8),
        ([head(10, 3), head(15, -1)], 16, 3),
    ],
)
def test_ids_are_read_again_from_where_the_newest_block_by_then_remembers_them(
    heads: list[Head], committed: int, reading_from: int
) -> None:
    windows = fresh()
    windows.restore(heads, NOON)
    assert windows.resume(committed) == reading_from


def test_who_has_read_already_reads_on() -> None:
    windows = fresh()
    windows.restore([head(30, 2)], NOON)
    count(windows, [request(0), request(9)])
    assert [windows.resume(committed) for committed in (12, 10, 5)] == [10, 10, 5]


def test_what_is_taken_up_says_how_far_it_was() -> None:
    windows = fresh()
    windows.restore([head(4, watermark=NOON), head(9, watermark=NOON + 7), head(2, watermark=NOON + 3)], NOON)
    assert (windows.offset, windows.watermark, windows.whole) == (9, NOON + 7, False)
    windows.resume(9)
    assert not windows.whole, "offset 9 has to come again"
    windows.resume(10)
    assert windows.whole
    windows.resume(3)
    assert windows.whole, "what is acknowledged stays so"


def test_what_is_acknowledged_is_remembered_and_not_counted() -> None:
    windows = fresh()
    windows.resume(3)
    windows.remember(frame([request(0), request(1), request(2, event_id="imported", imported=True)]), 2)
    again = [request(3, event_id="e0"), request(4, event_id="e1"), request(5, event_id="imported")]
    step = count(windows, again)
    assert (step.counted, step.repeats) == (1, 2)
    assert written(step) == {("1m", 0, False): (1, False)}


def test_of_a_batch_that_begins_before_what_is_acknowledged_the_rest_is_counted() -> None:
    windows = fresh()
    windows.resume(2)
    twice = {"event_id": "a", "occurred_at": NOON}
    step = count(windows, [request(0, **twice), request(1), request(2, **twice), request(3)])
    assert (step.counted, step.repeats, written(step)) == (1, 1, {("1m", 0, False): (1, False)})


def test_of_a_batch_that_lies_before_what_is_acknowledged_nothing_is() -> None:
    windows = fresh()
    windows.resume(9)
    twice = {"event_id": "a", "occurred_at": NOON}
    step = count(windows, [request(0, **twice), request(1, **twice)], through=9)
    assert (step.counted, step.repeats, step.blocks, windows.offset) == (0, 0, [], 9)
    imported = [request(10, imported=True), request(11, imported=True)]
    windows.resume(12)
    step = count(windows, imported, through=12)
    assert (step.counted, step.blocks) == (0, [])


def test_an_event_is_counted_once_whatever_comes_again() -> None:
    windows = fresh()
    assert count(windows, [request(0), request(1)]).repeats == 0
    step = count(windows, [request(2, event_id="e0"), request(3, event_id="e1"), request(4)])
    assert (step.counted, step.repeats) == (1, 2)
    (block,) = step.blocks
    assert (block.rows["requests"].to_pylist(), block.since, block.offset) == ([3], 0, 4)


def test_imported_events_are_not_held_against_one_another_nor_against_live_ones() -> None:
    windows = fresh()
    step = count(
        windows,
        [request(0, imported=True), request(1, event_id="e0", imported=True), request(2, event_id="e0")],
    )
    assert (step.counted, step.repeats) == (3, 0)
    assert written(step) == {("1m", 0, True): (2, False), ("1m", 0, False): (1, False)}


def test_a_block_says_from_where_ids_are_remembered() -> None:
    windows = fresh()
    (block,) = count(windows, [request(3), request(4)]).blocks
    assert block.remembers_from == 3
    count(windows, [request(5, NOON + 3 * MINUTE)])
    blocks = count(windows, [request(6, NOON + 6 * MINUTE)]).blocks
    assert {block.remembers_from for block in blocks if not block.closed} == {5}


@pytest.mark.parametrize("after", [0, 1])
def test_a_pane_closes_when_the_watermark_reaches_its_end(after: int) -> None:
    windows = fresh()
    count(windows, [request(0)])
    step = windows.advance(NOON + MINUTE + 10 * SECOND - 1 + after)
    assert [closed.pane_start for closed in step.closed] == [NOON] * after
    assert written(step) == ({("1m", 0, False): (1, True)} if after else {})


@pytest.mark.parametrize("after", [0, 1])
def test_an_event_of_a_pane_that_nobody_has_seen_is_late_from_its_end_on(after: int) -> None:
    windows = fresh()
    count(windows, [request(0, NOON + MINUTE + 10 * SECOND - 1 + after)])
    (block,) = (block for block in count(windows, [request(1)]).blocks if block.key.pane_start == NOON)
    assert (block.closed, block.revision) == (bool(after), after)


def test_late_events_of_a_block_that_was_closed_before_a_restart_are_added_to_it() -> None:
    store = Store(BY_MINUTE)
    store.count([request(0), request(1, NOON + 2 * MINUTE)])
    store.restart()
    store.windows.resume(2)
    step = store.count([request(2, NOON + 1)])
    (block,) = step.blocks
    assert (block.rows["requests"].to_pylist(), block.revision, block.closed, block.offset) == (
        [2],
        1,
        True,
        2,
    )


def test_each_correction_counts_and_only_those_of_what_is_closed() -> None:
    store = Store(BY_MINUTE)
    store.count([request(0), request(1, NOON + 2 * MINUTE)])
    revisions = []
    for offset in range(2, 5):
        step = store.count([request(2 * offset, NOON + offset), request(2 * offset + 1, NOON + 2 * MINUTE)])
        revisions.append({block.key.pane_start - NOON: block.revision for block in step.blocks})
    assert revisions == [{0: revision, 2 * MINUTE: 0} for revision in (1, 2, 3)]


def test_corrections_are_told_for_100_minutes_after_the_end_of_a_minute() -> None:
    for watermark, told in ((NOON + 101 * MINUTE - 1, [1]), (NOON + 101 * MINUTE, [])):
        windows = fresh()
        count(windows, [request(0), request(1, watermark + 10 * SECOND)])
        step = count(windows, [request(2)])
        assert [correction.revision for correction in step.corrected] == told


def test_corrections_are_told_of_live_minutes_only() -> None:
    windows = fresh(Plan(((TOTAL, MINUTES), (TOTAL, DAYS), (TOTAL, SECONDS)), lateness=0, write_every=HOUR))
    count(windows, [request(0), request(1, NOON + 2 * DAY)], now=NOON)
    step = count(
        windows, [request(2, NOON + 1 * DAY + HOUR + 2 * SECOND), request(3, NOON + 2 * DAY - MINUTE)]
    )
    assert {closed.pane for closed in step.corrected} == {"1m"}
    assert [closed.pane_start for closed in step.corrected] == [NOON + 2 * DAY - MINUTE]
    windows = fresh()
    count(windows, [request(0, NOON + 2 * MINUTE)])
    step = count(windows, [request(1, imported=True)])
    assert (step.corrected, [block.revision for block in step.blocks]) == ([], [0])


def test_corrections_wait_until_all_is_counted_again_that_was() -> None:
    store = Store(BY_MINUTE)
    store.count([request(0), request(1, NOON + 2 * MINUTE)])
    store.count([request(2, NOON + 2 * MINUTE), request(3, NOON + 2 * MINUTE)])
    store.restart()
    store.windows.resume(2)
    late = store.count([request(2, NOON + 1)])
    assert late.corrected == []
    again = store.count([request(3, NOON + 2 * MINUTE)])
    assert [closed.rows["requests"].to_pylist() for closed in again.corrected] == [[2]]


def test_a_minute_takes_events_for_as_long_as_it_is_kept_and_no_longer() -> None:
    plan = Plan(((TOTAL, replace(MINUTES, keep=5 * MINUTE)),), lateness=0)
    for watermark, counted in ((NOON + 6 * MINUTE - 1, 1), (NOON + 6 * MINUTE, 0)):
        windows = fresh(plan)
        count(windows, [request(0, watermark)])
        step = count(windows, [request(1), request(2, watermark)])
        assert (step.counted, step.too_late) == (1 + counted, 1 - counted)


@pytest.mark.parametrize(("after", "counted"), [(-1, 2), (0, 1)])
def test_an_event_is_judged_by_the_watermark_that_those_before_it_have_made(after: int, counted: int) -> None:
    """Also in one batch with them; the watermark is as far behind them as events may be late."""
    windows = fresh(Plan(((TOTAL, replace(MINUTES, keep=5 * MINUTE)),), lateness=10 * SECOND))
    step = count(windows, [request(0, NOON + 6 * MINUTE + 10 * SECOND + after), request(1)])
    assert (step.counted, step.too_late) == (counted, 2 - counted)


def test_a_minute_takes_events_of_long_ago_by_the_clock() -> None:
    """The clock says nothing about a log that is read days later."""
    for plan in (BY_MINUTE, BOTH):
        windows = fresh(plan)
        step = count(windows, [request(0), request(1, NOON + MINUTE)], now=NOON + 9 * DAY)
        assert (step.counted, step.too_late) == (2, 0)


def test_events_that_are_too_late_for_their_minute_may_be_in_time_for_their_day() -> None:
    windows = fresh(Plan(((TOTAL, replace(MINUTES, keep=HOUR)), (TOTAL, DAYS)), lateness=0))
    count(windows, [request(0, NOON + 5 * HOUR)])
    step = count(windows, [request(1), request(2), request(3, NOON + 5 * HOUR)])
    assert (step.counted, step.too_late) == (1, 2)
    assert written(step) == {("1m", 5 * 3_600, False): (2, False), ("1d", -12 * 3_600, False): (4, False)}


def test_what_is_too_late_for_the_shortest_pane_that_lasts_is_too_late() -> None:
    windows = fresh(Plan(((TOTAL, DAYS),), lateness=0))
    count(windows, [request(0, NOON + 9 * DAY)])
    step = count(windows, [request(1), request(2, NOON + 9 * DAY)])
    assert (step.counted, step.too_late) == (1, 1)
    assert written(step) == {("1d", 9 * 86_400 - 12 * 3_600, False): (2, False)}


@pytest.mark.parametrize(("late_by", "counted"), [(0, True), (1, False)])
def test_seconds_of_long_ago_by_the_clock_are_not_counted(late_by: int, counted: bool) -> None:
    """Who catches up needs none of them: but the minutes."""
    windows = fresh(BOTH)
    now = NOON + SECOND + 15 * MINUTE - 1 + late_by
    step = count(windows, [request(0), request(1, NOON + 5 * SECOND)], now=now)
    assert (("1s", 0, False) in written(step), ("1s", 5, False) in written(step)) == (counted, True)
    assert step.counted == 2
    assert written(windows.wait(now)) == {("1m", 0, False): (2, False)}


def test_a_live_figure_that_closes_long_after_its_time_is_written_and_not_announced() -> None:
    for now, told in ((NOON + 71 * SECOND, ["1s"]), (NOON + 71 * SECOND + 1, [])):
        windows = fresh(BOTH)
        count(windows, [request(0)])
        step = count(windows, [request(1, NOON + 11 * SECOND)], now=now)
        assert [closed.pane for closed in step.closed] == told
        assert written(step)["1s", 0, False] == (1, True)


def test_a_minute_that_closes_long_after_its_time_is_announced() -> None:
    windows = fresh()
    count(windows, [request(0)])
    step = count(windows, [request(1, NOON + 2 * MINUTE)], now=NOON + 5 * DAY)
    assert [closed.pane_start for closed in step.closed] == [NOON]
