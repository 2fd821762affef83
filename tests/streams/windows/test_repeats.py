"""Repeats: an event that is sent again counts once, and the verdict depends on the log alone."""

import random
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from schemas.time import MINUTE, SECOND
from streams.windows.repeats import HORIZON, IdSet, Repeats
from tests.streams.windows.requests import NOON

Event = tuple[str, int, int]
"""Its id, when it occurred, when it arrived."""

MOST = 1_000_000


def frame(events: Sequence[Event], begin: int = 0) -> pl.DataFrame:
    ids, times, arrived = zip(*events, strict=True)
    offsets = range(begin, begin + len(events))
    occurred = pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {"event_id": ids, "occurred_at": occurred, "_arrived": arrived, "_offset": offsets},
        schema_overrides={"_arrived": pl.Int64, "_offset": pl.Int64},
    )


def verdicts(repeats: Repeats, events: Sequence[Event], begin: int = 0) -> list[bool]:
    """Which are repeats."""
    first = repeats.first_time(frame(events, begin), begin + len(events) - 1)
    return [False] * len(events) if first is None else [not is_first for is_first in first.tolist()]


def by_hand(events: Sequence[Event]) -> list[bool]:
    """The definition, event by event."""
    seen: set[tuple[str, int]] = set()
    reached, found = 0, []
    for event_id, occurred, arrived in events:
        within = occurred // MINUTE >= reached // MINUTE - HORIZON
        found.append(within and (event_id, occurred) in seen)
        seen.add((event_id, occurred))
        reached = max(reached, min(occurred, arrived))
    return found


def log(length: int, seed: int) -> list[Event]:
    """Events with many repeats, out of order, some by clocks that are ahead, some very late."""
    chance = random.Random(seed)
    events: list[Event] = []
    now = NOON
    for number in range(length):
        now += chance.choice([0, SECOND, 40 * SECOND, 3 * MINUTE])
        if events and number % 2:
            again = chance.choice(events[-8:])
            events.append((again[0], again[1], now))
        else:
            ahead = chance.choice([0, -SECOND, -MINUTE, -5 * MINUTE, -7 * MINUTE, 4 * MINUTE])
            events.append((chance.choice("abcdef"), now + ahead, now))
    return events


@pytest.mark.parametrize("batch", [1, 2, 7, 300])
def test_a_log_has_the_verdicts_of_the_definition_however_it_is_cut(batch: int) -> None:
    events = log(150, seed=5)
    repeats = Repeats(MOST)
    found: list[bool] = []
    for begin in range(0, len(events), batch):
        found += verdicts(repeats, events[begin : begin + batch], begin)
    assert found == by_hand(events)
    assert 20 < sum(found) < 75


def test_nothing_is_remembered_at_first_nor_of_an_empty_batch() -> None:
    repeats = Repeats(MOST)
    assert (len(repeats), repeats.nbytes, repeats.since, repeats.next_offset) == (0, 0, 0, 0)
    assert repeats.forgotten_early == 0
    none = frame([("a", NOON, NOON)]).clear()
    assert repeats.first_time(none, 6) is None
    assert (len(repeats), repeats.since, repeats.next_offset) == (0, 7, 7)
    repeats.first_time(none, 3)
    assert repeats.next_offset == 7, "it never goes back"


def test_a_batch_without_repeats_needs_no_verdicts() -> None:
    repeats = Repeats(MOST)
    assert repeats.first_time(frame([("a", NOON, NOON), ("b", NOON, NOON)]), 1) is None
    assert (len(repeats), repeats.since, repeats.next_offset) == (2, 0, 2)
    found = repeats.first_time(frame([("c", NOON, NOON), ("a", NOON, NOON)], 2), 3)
    assert found is not None
    assert found.tolist() == [True, False]
    assert (len(repeats), repeats.since) == (3, 0)


@pytest.mark.parametrize(("minutes", "repeat"), [(5, True), (6, False)])
def test_an_event_is_known_for_five_minutes_after_its_own(minutes: int, repeat: bool) -> None:
    """Whole minutes: from the last moment of one to the first of another."""
    late = NOON + MINUTE - 1
    moved = NOON + minutes * MINUTE
    events = [("a", late, late), ("b", moved, moved), ("a", late, moved)]
    assert verdicts(Repeats(MOST), events) == [False, False, repeat]
    apart = Repeats(MOST)
    assert [verdicts(apart, [event], n)[0] for n, event in enumerate(events)] == [False, False, repeat]


def test_the_oldest_minute_is_forgotten_early_and_the_present_one_never() -> None:
    repeats = Repeats(most=3)
    verdicts(repeats, [("a", NOON, NOON), ("b", NOON, NOON), ("c", NOON + MINUTE, NOON + MINUTE)])
    assert (len(repeats), repeats.forgotten_early, repeats.since) == (3, 0, 0)
    verdicts(repeats, [("d", NOON + MINUTE, NOON + MINUTE)], 3)
    assert (len(repeats), repeats.forgotten_early, repeats.since) == (2, 2, 2)
    many = [(str(n), NOON + 2 * MINUTE, NOON + 2 * MINUTE) for n in range(9)]
    verdicts(repeats, many, 4)
    assert (len(repeats), repeats.forgotten_early, repeats.since) == (9, 4, 4)


def test_each_minute_takes_the_memory_of_its_ids() -> None:
    repeats = Repeats(MOST)
    verdicts(repeats, [("a", NOON, NOON)])
    assert repeats.nbytes == 8 * 1_024
    verdicts(repeats, [("b", NOON + MINUTE, NOON + MINUTE)], 1)
    assert repeats.nbytes == 2 * 8 * 1_024


def test_a_set_of_ids_doubles_when_more_than_half_would_be_taken() -> None:
    ids = IdSet()
    ids.add(np.arange(1, 513, dtype=np.uint64))
    assert (len(ids), ids.nbytes) == (512, 8 * 1_024)
    assert ids.add(np.array([513], np.uint64)).tolist() == [True]
    assert (len(ids), ids.nbytes) == (513, 8 * 2_048)
    assert ids.add(np.arange(1, 2_001, dtype=np.uint64)).sum() == 2_000 - 513
    assert (len(ids), ids.nbytes) == (2_000, 8 * 8_192)


def test_of_equal_ids_in_a_batch_the_first_is_new() -> None:
    ids = IdSet()
    assert ids.add(np.array([7, 7, 9, 7, 9], np.uint64)).tolist() == [True, False, True, False, False]
    assert ids.add(np.array([9, 8], np.uint64)).tolist() == [False, True]


def test_the_same_id_at_another_time_is_another_event() -> None:
    assert verdicts(Repeats(MOST), [("a", NOON, NOON), ("a", NOON + 1, NOON)]) == [False, False]


def test_what_lies_beyond_the_horizon_is_forgotten_and_takes_no_memory() -> None:
    repeats = Repeats(MOST)
    for minute in range(100):
        start = NOON + minute * MINUTE
        verdicts(repeats, [(f"{minute}-{n}", start + n, start + n) for n in range(50)], 50 * minute)
    assert len(repeats) == 50 * (HORIZON + 1)
    assert repeats.since == 50 * (99 - HORIZON)


def test_a_clock_that_is_ahead_does_not_make_others_forget() -> None:
    ahead = ("ahead", NOON + 5 * MINUTE, NOON)
    late = ("late", NOON - 4 * MINUTE, NOON)
    assert verdicts(Repeats(MOST), [late, ahead, late]) == [False, False, True]


def test_memory_is_bounded_and_says_when_the_bound_is_reached() -> None:
    repeats = Repeats(most=200)
    for minute in range(4):
        start = NOON + minute * MINUTE
        verdicts(repeats, [(f"{minute}-{n}", start + n, start + n) for n in range(100)], 100 * minute)
    assert len(repeats) == 200
    assert repeats.forgotten_early == 200
    again = ("3-7", NOON + 3 * MINUTE + 7, NOON + 3 * MINUTE)
    assert verdicts(repeats, [again], 400) == [True]


@pytest.mark.parametrize("batch", [1, 7, 500, 5_000])
def test_a_set_of_ids_knows_what_is_new_whatever_the_batches(batch: int) -> None:
    chance = random.Random(batch)
    ids = IdSet()
    seen: set[int] = set()
    for _ in range(max(3, 2_000 // batch)):
        some = [chance.randrange(1, 4_000) for _ in range(batch)]
        expected = []
        for each in some:
            expected.append(each not in seen)
            seen.add(each)
        assert ids.add(np.array(some, np.uint64)).tolist() == expected
    assert len(ids) == len(seen)
    assert ids.nbytes <= max(8 * 1_024, 8 * 4 * (len(seen) + batch))
