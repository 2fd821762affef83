"""Repeats: an event that is sent again counts once, and the verdict depends on the log alone."""

import random
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events with many repeats, out of order, some by clocks that are ahead, some very late."""
    events: list[Event] = []
    now = NOON
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, SECOND, 40 * SECOND, 3 * MINUTE]))
        if events and draw(st.booleans()):
            again = draw(st.sampled_from(events))
            events.append((again[0], again[1], now))
        else:
            ahead = draw(st.sampled_from([0, -SECOND, -MINUTE, -7 * MINUTE, 4 * MINUTE]))
            events.append((draw(st.sampled_from("abcdef")), now + ahead, now))
    return events


@given(logs(), st.data())
@settings(max_examples=200, deadline=None)
def test_however_the_log_is_cut_the_verdicts_are_those_of_the_definition(
    events: list[Event], data: st.DataObject
) -> None:
    repeats, found, done = Repeats(MOST), [], 0
    while done < len(events):
        end = data.draw(st.integers(done + 1, len(events)))
        found += verdicts(repeats, events[done:end], done)
        done = end
    assert found == by_hand(events)


@given(logs(), st.data())
@settings(max_examples=200, deadline=None)
def test_who_reads_again_from_where_ids_are_remembered_comes_to_the_same_verdicts(
    events: list[Event], data: st.DataObject
) -> None:
    taken_over = data.draw(st.integers(1, len(events)))
    before, after = Repeats(MOST), Repeats(MOST)
    verdicts(before, events[:taken_over])
    since = before.since

    if since < taken_over:
        verdicts(after, events[since:taken_over], since)
    found = verdicts(after, events[taken_over:], taken_over) if taken_over < len(events) else []

    assert found == by_hand(events)[taken_over:]


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
