"""The blocks of a partition: when they are written, kept at hand, deleted, and taken up again."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.catalogue.groupings import SPACE, TOTAL
from streams.windows.block import Block, BlockKey
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from tests.streams.windows.partitions import (
    BOTH,
    BY_MINUTE,
    MANY,
    MINUTES,
    count,
    fresh,
    starts,
    written,
)
from tests.streams.windows.requests import NOON, frame, request
from tests.streams.windows.test_partition import Store


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
    (block,) = count(fresh(), [request(5)]).blocks
    windows = fresh()
    windows.restore([block], NOON)
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
