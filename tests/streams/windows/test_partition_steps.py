"""The windows of a partition step by step: what is counted, closed, corrected, written and forgotten."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl
import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.windows.block import Block, BlockKey
from streams.windows.measures import SPACE, TOTAL
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step
from tests.streams.windows.requests import NOON, Request, frame, request
from tests.streams.windows.test_partition import Store

SECONDS = Pane("1s", 15 * MINUTE, SECOND, live_only=True)
MINUTES = Pane("1m", 26 * HOUR, MINUTE)
DAYS = Pane("1d", 3 * DAY)
BY_MINUTE = Plan(((TOTAL, MINUTES),), lateness=10 * SECOND)
BOTH = Plan(((TOTAL, MINUTES), (TOTAL, SECONDS)), lateness=10 * SECOND, write_every=SECOND)
MANY = 5_000
"""Events that pay for writing everything."""


def written(step: Step) -> dict[tuple[str, int, bool], tuple[int, bool]]:
    """Of each block its requests, and whether it is closed; by pane, second since noon, imported or not."""
    return {
        (block.key.pane, (block.key.pane_start - NOON) // SECOND, block.key.imported): (
            sum(block.rows["requests"].to_pylist()),
            block.closed,
        )
        for block in step.blocks
    }


def starts(keys: Sequence[BlockKey]) -> list[int]:
    """In which second since noon each pane begins."""
    return [(key.pane_start - NOON) // SECOND for key in keys]


def fresh(plan: Plan = BY_MINUTE, partition: int = 0) -> PartitionWindows:
    return PartitionWindows(partition, plan, lambda key: None)


def count(windows: PartitionWindows, requests: list[Request], now: int = NOON, through: int = -1) -> Step:
    return windows.count(frame(requests), max(through, requests[-1]["_offset"]), now)


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


def test_without_minutes_every_event_is_counted() -> None:
    windows = fresh(Plan(((TOTAL, DAYS),), lateness=0))
    count(windows, [request(0, NOON + 9 * DAY)])
    step = count(windows, [request(1), request(2, NOON + 9 * DAY)])
    assert (step.counted, step.too_late) == (2, 0)
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


def test_minutes_wait_until_a_second_is_over_and_all_that_waits_is_then_written_at_once() -> None:
    windows = fresh(BOTH)
    step = count(windows, [request(0)])
    assert (written(step), step.complete, windows.due(NOON)) == ({("1s", 0, False): (1, False)}, False, True)
    step = windows.wait(NOON)
    assert (written(step), step.complete, windows.due(NOON)) == ({("1m", 0, False): (1, False)}, True, False)
    assert windows.due(NOON + SECOND) is False, "nothing has come"
    step = count(windows, [request(1, NOON + MINUTE)], now=NOON + 1)
    assert (step.complete, windows.due(NOON + SECOND - 1), windows.due(NOON + SECOND)) == (False, False, True)
    step = windows.wait(NOON + SECOND - 1)
    assert (step.blocks, step.complete, windows.due(NOON + SECOND)) == ([], False, True), (
        "counted, not written"
    )
    assert written(windows.wait(NOON + SECOND)) == {("1m", 60, False): (1, False)}
    assert windows.due(NOON + 2 * SECOND) is False


def test_what_was_written_at_a_step_need_not_be_written_again() -> None:
    windows = fresh(Plan(((TOTAL, MINUTES),), lateness=10 * SECOND, write_every=SECOND))
    assert written(count(windows, [request(0)])) == {("1m", 0, False): (1, False)}
    step = count(windows, [request(1)], now=NOON + 1)
    assert (step.blocks, step.complete, windows.due(NOON + SECOND)) == ([], False, True)
    assert written(windows.wait(NOON + SECOND)) == {("1m", 0, False): (2, False)}
    assert windows.wait(NOON + 2 * SECOND).blocks == []


def test_partitions_write_at_different_times_of_a_second() -> None:
    times = []
    for partition in range(8):
        windows = fresh(BOTH, partition)
        count(windows, [request(0)])
        windows.wait(NOON)
        count(windows, [request(1)])
        moments = range(NOON, NOON + SECOND + 1, SECOND // 200)
        due = [windows.due(moment) for moment in moments]
        assert due == sorted(due), "once it is due, it is"
        assert due[-1], "within a second"
        times.append(due.index(True) % 200)
    assert times[0] == 0, "the first at whole seconds"
    apart = [(one - other) % 200 for one in times for other in times if one is not other]
    assert min(apart) >= 10, "each by itself for a twentieth of a second at least"


@pytest.mark.parametrize(("size", "writes"), [(MANY - 1, False), (MANY, True)])
@pytest.mark.parametrize("imported", [0, 2_000])
def test_many_events_are_written_at_once_at_any_time(size: int, imported: int, writes: bool) -> None:
    windows = fresh(Plan(((TOTAL, MINUTES),), lateness=10 * SECOND, write_every=HOUR))
    count(windows, [request(0)])
    batch = frame([request(1)] * size).with_columns(
        event_id=_numbers(size).cast(str), _offset=1 + _numbers(size), imported=_numbers(size) < imported
    )
    step = windows.count(batch, size, NOON)
    assert (step.counted, bool(step.blocks), step.complete) == (size, writes, writes)
    if writes:
        assert written(step) == {
            ("1m", 0, False): (1 + size - imported, False),
            **({("1m", 0, True): (imported, False)} if imported else {}),
        }


def _numbers(size: int) -> pl.Series:
    return pl.Series(range(size), dtype=pl.Int64)


@pytest.mark.parametrize(("size", "counts"), [(MANY - 2, False), (MANY - 1, True)])
def test_many_events_that_wait_are_counted_at_once(size: int, counts: bool) -> None:
    windows = fresh(replace(BOTH, write_every=HOUR))
    count(windows, [request(0)])
    windows.wait(NOON)
    count(windows, [request(1)])
    batch = frame([request(2)] * size).with_columns(
        event_id=_numbers(size).cast(str), _offset=2 + _numbers(size)
    )
    windows.count(batch, size + 1, NOON)
    assert len(windows._waiting) == (0 if counts else size + 1)
    assert written(windows.wait(NOON + HOUR)) == {("1m", 0, False): (size + 2, False)}


def test_what_waits_is_counted_when_the_watermark_reaches_the_end_of_its_pane() -> None:
    for at, closes in ((NOON + MINUTE + 10 * SECOND - 1, False), (NOON + MINUTE + 10 * SECOND, True)):
        windows = fresh(replace(BOTH, write_every=HOUR))
        count(windows, [request(0, NOON + MINUTE - 1)])
        step = count(windows, [request(1, at)])
        assert (("1m", 0, False) in written(step)) == closes


def test_a_block_tells_to_which_offset_it_is_counted() -> None:
    windows = fresh(BOTH)
    assert [block.offset for block in count(windows, [request(0)], through=5).blocks] == [5]
    (minute,) = windows.wait(NOON).blocks
    assert (minute.since, minute.offset) == (0, 5)


def test_imported_blocks_make_room_in_the_order_in_which_they_were_added_to_last() -> None:
    windows = fresh()

    def add(offset: int, minute: int, now: int) -> None:
        count(windows, [request(offset, NOON + minute * MINUTE, imported=True)], now=now)

    add(0, 1, NOON)
    add(1, 2, NOON + 10 * MINUTE)
    add(2, 1, NOON + 20 * MINUTE)
    add(3, 3, NOON + 20 * MINUTE)
    assert windows.wait(NOON + 70 * MINUTE - 1).expired == []
    assert starts(windows.wait(NOON + 70 * MINUTE).expired) == [120]
    assert starts(windows.wait(NOON + 80 * MINUTE).expired) == [60, 180]
    assert windows.wait(NOON + 90 * MINUTE).expired == []


def test_an_imported_block_that_was_not_written_is_before_it_makes_room() -> None:
    windows = fresh(Plan(((TOTAL, MINUTES),), lateness=0, write_every=DAY))
    count(windows, [request(0)])
    assert count(windows, [request(1), request(2, imported=True)]).blocks == []
    step = windows.wait(NOON + HOUR)
    assert (starts(step.expired), written(step)) == ([0], {("1m", 0, True): (1, False)})
    assert not step.complete, "the live one waits on"
    (again,) = (
        block
        for block in windows.count(frame([request(3, imported=True)]), 3, NOON + DAY).blocks
        if block.key.imported
    )
    assert (again.since, again.rows["requests"].to_pylist()) == (3, [1])


def test_imported_blocks_that_wait_to_be_written_are_added_to_however_many_there_are() -> None:
    windows = fresh(Plan(((TOTAL, MINUTES),), lateness=0, write_every=DAY))
    count(windows, [request(0)])
    many = [request(1 + n, NOON + n * MINUTE, imported=True) for n in range(600)]
    assert count(windows, many).blocks == []
    assert count(windows, [request(601, NOON, imported=True)]).blocks == []
    found = written(windows.wait(NOON + HOUR))
    assert (len(found), found["1m", 0, True], found["1m", 60, True]) == (600, (2, False), (1, False))


def test_imported_blocks_of_before_a_restart_wait_an_hour_from_there() -> None:
    store = Store(BY_MINUTE)
    store.count([request(0, imported=True)])
    store.restart(NOON + 30 * MINUTE)
    assert store.windows.wait(NOON + 90 * MINUTE - 1).expired == []
    assert starts(store.windows.wait(NOON + 90 * MINUTE).expired) == [0]


def test_blocks_expire_in_the_order_of_their_time_each_when_the_watermark_has_passed_it() -> None:
    windows = fresh(Plan(((TOTAL, replace(MINUTES, keep=10 * MINUTE)),), lateness=0))
    count(windows, [request(0, NOON + MINUTE), request(1), request(2, NOON + 5 * MINUTE)])
    assert starts(windows.advance(NOON + 11 * MINUTE - 1).expired) == []
    assert starts(windows.advance(NOON + 11 * MINUTE).expired) == [0]
    assert starts(windows.advance(NOON + 20 * MINUTE).expired) == [60, 300]
    assert starts(windows.advance(NOON + DAY).expired) == []


def test_a_block_that_is_born_late_expires_too_and_one_that_was_closed_before_a_restart() -> None:
    store = Store(Plan(((TOTAL, replace(MINUTES, keep=10 * MINUTE)),), lateness=0))
    store.count([request(0, NOON + 5 * MINUTE)])
    store.count([request(1)])
    store.restart()
    store.windows.resume(2)
    step = store.windows.advance(NOON + 11 * MINUTE)
    assert starts(step.expired) == [0]


class Loading:
    """Blocks that were written, and which of them were asked for."""

    def __init__(self, blocks: Sequence[Block] = ()) -> None:
        self.blocks = {block.key: block for block in blocks}
        self.asked: list[BlockKey] = []

    def __call__(self, key: BlockKey) -> Block | None:
        self.asked.append(key)
        return self.blocks.get(key)

    def loaded(self) -> list[int]:
        """Since it was asked last."""
        asked, self.asked = self.asked, []
        return starts(asked)


def test_a_block_is_looked_for_where_one_may_have_been_written_and_is_not_at_hand() -> None:
    loading = Loading()
    windows = PartitionWindows(0, BY_MINUTE, loading)
    count(windows, [request(0)])
    assert loading.loaded() == [], "of a minute that lies ahead there is none"
    count(windows, [request(1, NOON + 10 * SECOND), request(2, NOON)])
    assert loading.loaded() == [], "it is at hand"
    count(windows, [request(3, NOON + 3 * MINUTE)])
    count(windows, [request(4, NOON + 1)])
    assert loading.loaded() == [], "though it is closed"
    count(windows, [request(5, NOON + MINUTE), request(6, NOON + 2 * MINUTE)])
    assert loading.loaded() == [60, 120], "it may have expired from memory"
    count(windows, [request(7, NOON + 9 * MINUTE, imported=True)])
    assert loading.loaded() == [540], "imported ones, wherever they lie"
    count(windows, [request(8, NOON + 9 * MINUTE, imported=True)])
    assert loading.loaded() == []
    windows = PartitionWindows(0, replace(BY_MINUTE, lateness=0), loading)
    windows.advance(NOON)
    count(windows, [request(0)])
    assert loading.loaded() == [], "the watermark is where its minute begins"


def test_512_blocks_that_are_closed_stay_at_hand_those_that_were_asked_for_last() -> None:
    loading = Loading()
    windows = PartitionWindows(0, replace(BY_MINUTE, lateness=0), loading)
    closing = [request(n, NOON + n * MINUTE) for n in range(513)]
    step = count(windows, closing)
    assert len(step.closed) == 512
    loading.blocks = {block.key: block for block in step.blocks}
    loading.loaded()
    assert count(windows, [request(513)]).blocks[0].rows["requests"].to_pylist() == [2]
    assert loading.loaded() == [], "all are at hand"
    count(windows, [request(514, NOON + 513 * MINUTE)])
    count(windows, [request(515, NOON + 2)])
    assert loading.loaded() == [], "the first was asked for after the second"
    (again,) = count(windows, [request(516, NOON + MINUTE)]).blocks
    assert loading.loaded() == [60]
    assert (again.rows["requests"].to_pylist(), again.revision) == ([2], 1)


def test_an_open_block_that_is_taken_up_counts_on_and_closes() -> None:
    store = Store(BY_MINUTE)
    store.count([request(0), request(1)])
    store.restart()
    assert store.windows.resume(2) == 0
    (block,) = store.count([request(2)]).blocks
    assert (block.rows["requests"].to_pylist(), block.since, block.offset) == ([3], 0, 2)
    (closed,) = store.windows.advance(NOON + 2 * MINUTE).closed
    assert closed.rows["requests"].to_pylist() == [3]


def test_an_open_block_that_is_gone_is_counted_anew() -> None:
    windows = PartitionWindows(0, BY_MINUTE, lambda key: None)
    windows.restore([head(5, minute=0)._replace(closed=False)], NOON)
    assert count(windows, [request(6)]).blocks[0].rows["requests"].to_pylist() == [1]


@pytest.mark.parametrize("known", [1, 2, 3])
def test_of_events_that_come_again_a_block_counts_those_that_it_has_not(known: int) -> None:
    """It was durable through the first ones; nothing was acknowledged."""
    plan = Plan(((TOTAL, MINUTES), (SPACE, MINUTES)), lateness=10 * SECOND)
    requests = [request(n, NOON + n % 2 * MINUTE, space_id=f"s{n % 2}") for n in range(4)]
    store = Store(plan)
    store.count(requests[:known])
    store.blocks = {key: block for key, block in store.blocks.items() if key.grouping == "total"}
    store.restart()
    store.windows.resume(0)
    store.count(requests)
    found = {
        (key.grouping, (key.pane_start - NOON) // MINUTE): (
            sum(block.rows["requests"].to_pylist()),
            block.offset,
        )
        for key, block in store.blocks.items()
    }
    assert found == {
        ("total", 0): (2, 2 if known == 3 else 3),  # then it had all of them
        ("total", 1): (2, 3),
        ("space", 0): (2, 3),
        ("space", 1): (2, 3),
    }


def test_events_that_come_again_and_are_too_late_are_not_counted_anew() -> None:
    plan = Plan(((TOTAL, replace(MINUTES, keep=MINUTE)),), lateness=0)
    requests = [
        request(0),
        request(1, NOON + MINUTE),
        request(2, NOON + 2 * MINUTE),
        request(3, NOON + MINUTE),
    ]
    requests += [request(4, NOON + 1), request(5, NOON + MINUTE)]
    store = Store(plan)
    store.count(requests[:4])
    store.restart()
    store.windows.resume(0)
    step = store.count(requests)
    assert step.too_late >= 1
    assert {
        (key.pane_start - NOON) // MINUTE: block.rows["requests"].to_pylist()
        for key, block in store.blocks.items()
    } == {1: [3], 2: [1]}
