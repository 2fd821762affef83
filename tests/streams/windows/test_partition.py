"""The windows of a partition: what they hold, whatever way the requests come."""

from dataclasses import replace
from datetime import UTC
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.catalogue.groupings import ERROR, MODEL, SERVICE, SPACE, TOTAL, USER, WORKFLOW
from streams.windows.block import Block, BlockKey
from streams.windows.merge import merge
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step
from tests.streams.windows.expected import rows_of, windows
from tests.streams.windows.requests import NOON, Request, frame, many, request

SECONDS = Pane("1s", 15 * MINUTE, SECOND, live_only=True)
MINUTES = Pane("1m", 26 * HOUR, MINUTE, corrected_for=100 * MINUTE)
DAYS = Pane("1d", 3 * DAY, zone=UTC)
ALL = (TOTAL, SERVICE, MODEL, SPACE, WORKFLOW, ERROR, USER)
EVERY_MINUTE = Plan(tuple((grouping, MINUTES) for grouping in ALL), lateness=10 * SECOND)


class Store:
    """Blocks as a worker keeps them: the newest of each key."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.blocks: dict[BlockKey, Block] = {}
        self.windows = self.started(NOON)

    def started(self, now: int) -> PartitionWindows:
        windows = PartitionWindows(0, self.plan, self.blocks.get)
        windows.restore(self.blocks.values(), now)
        return windows

    def count(self, requests: list[Request], now: int = NOON) -> Step:
        return self.keep(self.windows.count(frame(requests), requests[-1]["_offset"], now))

    def keep(self, step: Step) -> Step:
        self.blocks |= {block.key: block for block in step.blocks}
        for key in step.expired:
            del self.blocks[key]
        return step

    def restart(self, now: int = NOON) -> None:
        self.windows = self.started(now)

    def figures(self, pane: str, imported: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, block in self.blocks.items():
            if (key.pane, key.imported) == (pane, imported):
                rows = rows_of(block.rows, key.grouping, key.pane_start)
                assert not rows.keys() & found.keys(), "a group lies in one bucket only"
                found |= rows
        return found


def expected(requests: list[Request], length: int = MINUTE) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for grouping in ALL:
        found |= windows(requests, grouping.name, length)
    return found


@given(many(), st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_windows_equal_a_count_by_hand_however_the_requests_are_cut_into_batches(
    requests: list[Request], data: st.DataObject
) -> None:
    store, done, acknowledged = Store(replace(EVERY_MINUTE, write_every=SECOND)), 0, 0
    now = NOON
    while done < len(requests):
        end = data.draw(st.integers(done + 1, len(requests)))
        now += data.draw(st.integers(0, SECOND))
        step = store.count(requests[done:end], now)
        done = end
        if step.complete:
            acknowledged = done
        if data.draw(st.booleans()):
            store.restart(now)
            done = acknowledged
    store.keep(store.windows.wait(now + SECOND))
    assert store.figures("1m") == expected(requests)


@given(many(), st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.slow
def test_batches_that_come_again_after_a_crash_count_once(
    requests: list[Request], data: st.DataObject
) -> None:
    store = Store(EVERY_MINUTE)
    done = data.draw(st.integers(1, len(requests)))
    store.count(requests[:done])
    # The crash came while the blocks were being written: some are missing, and nothing was acknowledged.
    for key in data.draw(st.lists(st.sampled_from(sorted(store.blocks)), unique=True)):
        del store.blocks[key]
    store.restart()
    cut = data.draw(st.integers(1, len(requests)))
    store.count(requests[:cut])
    if requests[cut:]:
        store.count(requests[cut:])
    assert store.figures("1m") == expected(requests)


@given(many(largest=30), many(largest=30))
@settings(max_examples=30, deadline=None)
@pytest.mark.slow
def test_the_rows_of_partitions_add_up(here: list[Request], there: list[Request]) -> None:
    tables: dict[tuple[str, int], list[Any]] = {}
    for requests in (here, there):
        store = Store(EVERY_MINUTE)
        store.count(requests)
        for key, block in store.blocks.items():
            tables.setdefault((key.grouping, key.pane_start), []).append(block.rows)
    found: dict[Any, Any] = {}
    for (name, start), rows in tables.items():
        grouping = next(g for g in ALL if g.name == name)
        found |= rows_of(merge(rows, grouping), name, start)
    assert found == expected([*here, *there])


def test_a_pane_closes_once_its_lateness_has_passed_and_is_announced_once() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=10 * SECOND))
    assert store.count([request(0, NOON), request(1, NOON + MINUTE + 9 * SECOND)]).closed == []
    step = store.count([request(2, NOON + MINUTE + 10 * SECOND)])
    assert [(closed.pane_start, closed.rows["requests"].to_pylist()) for closed in step.closed] == [
        (NOON, [1])
    ]
    assert store.count([request(3, NOON + MINUTE + 20 * SECOND)]).closed == []
    closed = {key.pane_start: block.closed for key, block in store.blocks.items()}
    assert closed == {NOON: True, NOON + MINUTE: False}


def test_an_idle_partition_closes_its_panes_by_the_clock() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=10 * SECOND))
    store.count([request(0, NOON)])
    assert store.keep(store.windows.advance(NOON + MINUTE + 9 * SECOND)).closed == []
    assert len(store.keep(store.windows.advance(NOON + MINUTE + 10 * SECOND)).closed) == 1
    assert store.windows.watermark == NOON + MINUTE


def test_minutes_are_written_at_intervals_seconds_at_every_step_and_both_before_acknowledging() -> None:
    store = Store(Plan(((SPACE, MINUTES), (SPACE, SECONDS)), lateness=10 * SECOND, write_every=SECOND))

    def written(step: Step) -> tuple[list[str], bool, bool]:
        return [block.key.pane for block in step.blocks], step.complete, store.windows.due(NOON + SECOND - 1)

    assert written(store.count([request(0, NOON)], now=NOON)) == (["1s"], False, True)
    assert written(store.keep(store.windows.wait(NOON))) == (["1m"], True, False)
    assert written(store.count([request(1, NOON)], now=NOON + SECOND - 1)) == (["1s"], False, False)
    assert store.windows.due(NOON + SECOND)
    assert written(store.keep(store.windows.wait(NOON + SECOND))) == (["1m"], True, False)
    assert {block.rows["requests"][0].as_py() for block in store.blocks.values()} == {2}


@pytest.mark.slow
def test_each_partition_writes_its_minutes_once_a_second_at_a_time_of_its_own() -> None:
    plan = Plan(((SPACE, MINUTES), (SPACE, SECONDS)), lateness=10 * SECOND, write_every=SECOND)
    wrote: dict[int, list[int]] = {}
    for partition in range(4):
        windows = PartitionWindows(partition, plan, lambda key: None)
        for offset, now in enumerate(range(NOON, NOON + 3 * SECOND, SECOND // 20)):
            windows.count(frame([request(offset, NOON)]), offset, now)
            if windows.due(now):
                windows.wait(now)
                wrote.setdefault(partition, []).append(now - NOON)
    settled = {partition: times[1:] for partition, times in wrote.items()}
    apart = [later - earlier for times in settled.values() for earlier, later in pairwise(times)]
    assert len(apart) >= 4
    assert set(apart) == {SECOND}
    within = sorted(times[0] % SECOND for times in settled.values())
    assert min(later - earlier for earlier, later in pairwise(within)) >= SECOND // 10


def test_a_pane_that_closes_is_written_at_once() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=0, write_every=HOUR))
    store.count([request(0, NOON)])
    step = store.count([request(1, NOON), request(2, NOON + MINUTE)])
    assert [(block.key.pane_start, block.closed) for block in step.blocks] == [(NOON, True)]
    assert not step.complete, "the next minute is counted, and not yet written"


def test_what_waits_is_counted_before_its_pane_closes_and_a_late_request_at_once() -> None:
    store = Store(Plan(((SPACE, MINUTES), (SPACE, SECONDS)), lateness=0, write_every=HOUR))
    store.count([request(0, NOON)])
    store.keep(store.windows.wait(NOON))
    assert [block.key.pane for block in store.count([request(1, NOON + SECOND)]).blocks] == ["1s", "1s"]
    (closed,) = (row for row in store.count([request(2, NOON + MINUTE)]).closed if row.pane == "1m")
    assert closed.rows["requests"].to_pylist() == [2]
    late = store.count([request(3, NOON + 2 * SECOND)])
    (minute,) = (block for block in late.blocks if block.key.pane == "1m")
    assert (minute.key.pane_start, minute.revision, minute.rows["requests"].to_pylist()) == (NOON, 1, [3])
    assert not late.complete, "the open minute waits on"
    assert [block.key.pane_start for block in store.windows.wait(NOON).blocks] == []
    last = store.keep(store.windows.wait(NOON + HOUR))
    assert ([block.key.pane_start for block in last.blocks], last.complete) == ([NOON + MINUTE], True)


def test_the_buckets_of_a_closing_pane_are_announced_together() -> None:
    store = Store(Plan(((USER, MINUTES),), lateness=0))
    store.count([request(n, NOON, user_id=f"u{n}") for n in range(50)])
    assert len(store.blocks) > 1
    (closed,) = store.keep(store.windows.advance(NOON + MINUTE)).closed
    assert sorted(closed.rows["user_id"].to_pylist()) == sorted(f"u{n}" for n in range(50))


def test_a_late_request_corrects_its_pane_with_a_higher_revision_and_closes_nothing() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=10 * SECOND))
    store.count([request(0, NOON), request(1, NOON + 2 * MINUTE)])
    step = store.count([request(2, NOON + 1)])
    assert step.closed == []
    (late,) = step.blocks
    assert (late.key.pane_start, late.closed, late.revision) == (NOON, True, 1)
    assert late.rows["requests"].to_pylist() == [2]
    # A pane that nobody had seen before is born closed, and is a correction as well.
    (unseen,) = store.count([request(3, NOON - 5 * MINUTE)]).blocks
    assert (unseen.closed, unseen.revision) == (True, 1)


def test_corrections_are_announced_whole_and_every_ten_seconds_at_most() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=10 * SECOND))
    store.count([request(0, NOON), request(1, NOON + 2 * MINUTE)])
    told = [store.count([request(2 + n, NOON + 1)], now=NOON + n * SECOND).corrected for n in range(11)]
    assert [[(c.revision, c.since, c.rows["requests"].to_pylist()) for c in some] for some in told] == [
        [(1, 0, [2])],
        *([[]] * 9),
        [(11, 0, [12])],
    ]
    store.count([request(20, NOON + 2 * HOUR)])
    step = store.count([request(21, NOON + 2)], now=NOON + MINUTE)
    assert (step.counted, step.corrected) == (1, []), "nobody who judges remembers that minute any more"


def test_a_request_is_too_late_once_its_minute_has_been_closed_for_26_hours() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=10 * SECOND))
    watermark = NOON + MINUTE + 26 * HOUR
    store.count([request(0, watermark - 1 + 10 * SECOND)])
    assert store.count([request(1, NOON)]).too_late == 0
    step = store.count([request(2, watermark + 10 * SECOND), request(3, NOON)])
    assert step.too_late == 1
    assert step.expired == [BlockKey(0, False, "1m", NOON, "space", 0)]


def test_whether_a_request_is_too_late_does_not_depend_on_its_batch() -> None:
    requests = [
        request(0, NOON),
        request(1, NOON + 2 * DAY),
        request(2, NOON + 1),
        request(3, NOON + 2 * DAY),
    ]
    together, apart = Store(EVERY_MINUTE), Store(EVERY_MINUTE)
    assert together.count(requests).too_late == 1
    assert sum(apart.count([row]).too_late for row in requests) == 1
    apart.blocks.pop(BlockKey(0, False, "1m", NOON, "total", 0), None)
    newest = {key for key in together.blocks if key.pane_start > NOON}
    assert {key: together.blocks[key].packed_rows for key in newest} == {
        key: apart.blocks[key].packed_rows for key in newest
    }


def test_imported_requests_have_blocks_of_their_own_move_no_watermark_and_are_never_too_late() -> None:
    store = Store(Plan(((SPACE, MINUTES), (SPACE, SECONDS)), lateness=10 * SECOND))
    store.count([request(0, NOON)])
    watermark = store.windows.watermark
    step = store.count([request(1, NOON - 700 * DAY, imported=True), request(2, NOON + DAY, imported=True)])
    assert (step.too_late, step.closed, store.windows.watermark) == (0, [], watermark)
    store.keep(store.windows.wait(NOON))
    assert {key.pane_start for key in store.blocks if key.imported} == {NOON - 700 * DAY, NOON + DAY}
    assert {key.pane for key in store.blocks if key.imported} == {"1m"}, "seconds are for live figures"


def test_an_imported_block_waits_an_hour_for_more_and_then_makes_room() -> None:
    plan = Plan(((SPACE, MINUTES),), lateness=0)
    store = Store(plan)
    store.count([request(0, NOON - DAY, imported=True)], now=NOON)
    store.count([request(1, NOON - DAY, imported=True)], now=NOON + 30 * MINUTE)
    assert store.keep(store.windows.advance(NOON + 89 * MINUTE)).expired == []
    assert len(store.keep(store.windows.advance(NOON + 90 * MINUTE)).expired) == 1
    (again,) = store.count([request(2, NOON - DAY, imported=True)], now=NOON + 91 * MINUTE).blocks
    assert again.since == 2, "a new block that adds to the old one, in history, rather than replacing it"


def test_expired_blocks_are_dropped_also_after_a_restart() -> None:
    store = Store(Plan(((SPACE, SECONDS),), lateness=0))
    store.count([request(0, NOON), request(1, NOON + 5 * SECOND)])
    store.restart()
    step = store.keep(store.windows.advance(NOON + 15 * MINUTE + 2 * SECOND))
    assert [key.pane_start for key in step.expired] == [NOON]


def test_days_begin_at_midnight_of_the_configured_zone_and_may_have_25_hours() -> None:
    rome = Pane("1d", 3 * DAY, zone=ZoneInfo("Europe/Rome"))
    # 2025-10-26, the day on which summer time ends: from 22:00 UTC the day before to 23:00 UTC.
    start = 1_761_429_600 * SECOND
    store = Store(Plan(((SPACE, rome),), lateness=0))
    store.count([request(0, start), request(1, start + 25 * HOUR - 1), request(2, start + 25 * HOUR)])
    assert sorted((key.pane_start, block.pane_end) for key, block in store.blocks.items()) == [
        (start, start + 25 * HOUR),
        (start + 25 * HOUR, start + 49 * HOUR),
    ]


@pytest.mark.parametrize("value", [2**53 + 1, 2**61])
def test_sums_beyond_what_a_double_counts_exactly_are_exact(value: int) -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=0))
    store.count([request(0, prompt_tokens=value), request(1, prompt_tokens=1)])
    (block,) = store.blocks.values()
    assert block.rows["prompt_tokens"].to_pylist() == [value + 1]


def test_after_a_crash_nothing_closes_before_it_is_whole_again() -> None:
    """The block that moved the watermark was durable, those of the pane that it closes were not any more."""
    store = Store(Plan(((SPACE, MINUTES),), lateness=0, write_every=0))
    store.count([request(0, NOON)])
    unwritten = store.windows.count(frame([request(1, NOON), request(2, NOON + MINUTE)]), 2, NOON)
    (opened,) = (block for block in unwritten.blocks if not block.closed)
    store.blocks[opened.key] = opened

    store.restart()
    assert store.windows.resume(committed=1) == 0
    assert store.keep(store.windows.wait(NOON)).closed == []
    assert store.count([request(1, NOON)]).closed == []
    (closed,) = store.count([request(2, NOON + MINUTE)]).closed
    assert (closed.pane_start, closed.rows["requests"].to_pylist()) == (NOON, [2])


def test_what_was_durable_and_acknowledged_closes_without_being_read_again() -> None:
    store = Store(Plan(((SPACE, MINUTES),), lateness=0, write_every=0))
    store.count([request(0, NOON)])
    store.restart()
    store.windows.resume(committed=1)
    (closed,) = store.keep(store.windows.advance(NOON + MINUTE)).closed
    assert closed.rows["requests"].to_pylist() == [1]


def test_what_waits_after_a_crash_is_counted_to_where_it_was_read_again_and_no_further() -> None:
    """The block of seconds was durable through both requests, the minute's not at all."""
    store = Store(Plan(((SPACE, MINUTES), (SPACE, SECONDS)), lateness=0, write_every=SECOND))
    store.count([request(0, NOON), request(1, NOON)])
    store.restart()
    store.windows.resume(committed=0)
    store.count([request(0, NOON)])
    store.keep(store.windows.wait(NOON))
    store.count([request(1, NOON)])
    store.keep(store.windows.wait(NOON + SECOND))
    assert {block.rows["requests"][0].as_py() for block in store.blocks.values()} == {2}


def test_blocks_that_another_version_counted_and_this_one_does_not_are_let_go_of() -> None:
    store = Store(Plan((*EVERY_MINUTE.counted, (USER, DAYS)), lateness=10 * SECOND))
    requests = [request(n, NOON + n) for n in range(3)]
    store.count(requests)
    days = [key for key in store.blocks if key.pane == "1d"]
    store.plan = EVERY_MINUTE

    store.restart()
    step = store.count([request(3, NOON + 3)])

    assert days
    assert step.expired == days
    assert store.figures("1m") == expected([*requests, request(3, NOON + 3)])


def test_an_unknown_grouping_and_pane_keep_no_worker_from_starting() -> None:
    store = Store(EVERY_MINUTE)
    store.count([request(0, NOON)])
    [(key, block)] = [each for each in store.blocks.items() if each[0].grouping == "total"]
    for changed in (key._replace(grouping="continent"), key._replace(pane="7m")):
        store.blocks[changed] = replace(block, key=changed)

    store.restart()
    step = store.count([request(1, NOON + 1)])

    assert {key.grouping for key in step.expired} | {key.pane for key in step.expired} >= {"continent", "7m"}
    assert store.figures("1m") == expected([request(0, NOON), request(1, NOON + 1)])
