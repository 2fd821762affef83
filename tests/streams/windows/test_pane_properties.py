"""Panes tile time: every moment lies in exactly one, in any zone, on days of any length."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros, micros_of
from streams.windows.panes import Pane

ODD_ZONES = {
    "Europe/Berlin": "changes at 2 in the morning",
    "America/Havana": "has two midnights every autumn",
    "Africa/Cairo": "has no midnight on a day in spring",
    "America/St_Johns": "went from a minute past midnight back to the day before",
    "Antarctica/Casey": "was put forward by three hours at midnight",
    "Pacific/Apia": "left out a day when it crossed the date line",
    "Australia/Lord_Howe": "changes by half an hour",
    "Asia/Kathmandu": "is a quarter of an hour off, and was not before 1986",
    "Africa/Monrovia": "was 44 minutes and 30 seconds off until 1972",
    "Pacific/Kiritimati": "is 14 hours ahead, and was 10 behind",
}

LEFT_OUT = {"Pacific/Apia": {"2011-12-30"}, "Pacific/Kiritimati": {"1994-12-31"}}

moments = st.integers(0, micros_of(datetime(2200, 1, 1, tzinfo=UTC)) - 1)
panes = st.one_of(
    st.sampled_from([SECOND, MINUTE, 5 * MINUTE, HOUR]).map(lambda length: Pane("fixed", 0, length)),
    st.sampled_from(["UTC", *ODD_ZONES]).map(lambda name: Pane("1d", 0, zone=ZoneInfo(name))),
    st.just(Pane("1d", 0, zone=UTC)),
)


def starts(pane: Pane, times: list[Micros]) -> list[Micros]:
    return pane.starts(np.array(times, dtype=np.int64)).tolist()


@given(panes, st.lists(moments, min_size=1, max_size=20))
def test_each_moment_lies_in_one_pane_and_all_ask_alike(pane: Pane, times: list[Micros]) -> None:
    begun = starts(pane, times)
    ends = pane.ends(np.array(begun, dtype=np.int64)).tolist()
    assert all(start <= time < end for start, time, end in zip(begun, times, ends, strict=True))
    assert ends == [pane.end(start) for start in begun]
    assert begun == [start for time in times for start in starts(pane, [time])], "whatever comes with it"
    assert starts(pane, begun) == begun, "a pane begins with its own start"


@given(panes, moments)
def test_a_pane_ends_where_the_next_begins(pane: Pane, time: Micros) -> None:
    (start,) = starts(pane, [time])
    end = pane.end(start)
    assert starts(pane, [end - 1, end]) == [start, end]
    if start:
        before = starts(pane, [start - 1])[0]
        assert before < start
        assert pane.end(before) == start


@pytest.mark.parametrize("name", ODD_ZONES, ids=[f"{name} {what}" for name, what in ODD_ZONES.items()])
@pytest.mark.slow
def test_days_tile_the_years_and_are_those_of_the_calendar(name: str) -> None:
    zone = ZoneInfo(name)
    pane = Pane("1d", 0, zone=zone)
    first, last = (micros_of(datetime(year, 1, 2, tzinfo=UTC)) for year in (1970, 2040))
    begun = np.unique(pane.starts(np.arange(first, last, 12 * HOUR)))
    assert [pane.end(start) for start in begun[:-1].tolist()] == begun[1:].tolist()
    dates = [_local(start, zone).date() for start in begun.tolist()]
    assert dates == sorted(set(dates)), "each begins a day of its own"
    left_out = {
        str(before + timedelta(days=n))
        for before, after in pairwise(dates)
        for n in range(1, (after - before).days)
    }
    assert left_out == LEFT_OUT.get(name, set())
    yesterdays = [_local(start - 1, zone).date() for start in begun.tolist()]
    assert all(before < after for before, after in zip(yesterdays, dates, strict=True)), "the first moment"


@given(st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Australia/Sydney"]), moments)
@example("Europe/Berlin", micros_of(datetime(2025, 10, 26, 0, 30, tzinfo=UTC)))
def test_where_clocks_change_at_night_a_day_runs_from_midnight_to_midnight(name: str, time: Micros) -> None:
    zone = ZoneInfo(name)
    pane = Pane("1d", 0, zone=zone)
    (start,) = starts(pane, [time])
    assert _local(start, zone) == _local(time, zone).replace(
        hour=0, minute=0, second=0, microsecond=0, fold=0
    )
    assert pane.end(start) - start in (23 * HOUR, DAY, 25 * HOUR)


def _local(time: Micros, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).astimezone(zone)
