"""Periods against the calendar, counted day by day, and against each other."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.time import DAY, HOUR, MINUTE, Micros, micros_of
from streams.windows.periods import Period

ZONES = [
    ZoneInfo(name)
    for name in (
        *("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"),
        *("America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"),
    )
]
FIRST, LAST = (micros_of(datetime(year, 1, 1, tzinfo=UTC)) for year in (2009, 2030))
times = st.integers(FIRST, LAST)


def local(time: Micros, zone: ZoneInfo) -> datetime:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)).astimezone(zone)


@given(times, st.sampled_from(ZONES), st.sampled_from(list(Period)))
def test_every_time_is_in_the_period_that_begins_before_it(
    time: Micros, zone: ZoneInfo, period: Period
) -> None:
    start = period.floor(time, zone)

    assert start <= time
    assert start < period.next(start, zone)
    if period is not Period.HOUR or zone.key != "Australia/Lord_Howe":  # whose clock is put by half an hour
        assert period.floor(start, zone) == start
        assert time < period.next(start, zone)


@given(times, st.sampled_from(ZONES))
def test_days_weeks_and_months_are_those_that_the_calendar_shows(time: Micros, zone: ZoneInfo) -> None:
    day = local(time, zone).date()
    monday = day - timedelta(days=day.isoweekday() - 1)

    for period, first in ((Period.DAY, day), (Period.WEEK, monday), (Period.MONTH, day.replace(day=1))):
        start = period.floor(time, zone)
        assert local(start, zone).date() >= first
        assert local(start - 1, zone).date() < first


@given(times, st.sampled_from(ZONES), st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]))
def test_one_follows_the_other_without_a_gap(time: Micros, zone: ZoneInfo, period: Period) -> None:
    bounds = list(period.bounds(period.floor(time, zone), time + 70 * DAY, zone))

    assert bounds[-1] >= time + 70 * DAY
    for start, end in pairwise(bounds):
        assert period.floor(end - 1, zone) == start
        assert period.floor(end, zone) == end


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Asia/Kolkata", date(2026, 3, 29), 24),
    ],
)
def test_a_day_on_which_the_clock_is_put_has_23_or_25_hours(zone: str, day: date, hours: int) -> None:
    tz = ZoneInfo(zone)
    start = Period.DAY.floor(micros_of(datetime(day.year, day.month, day.day, 12, tzinfo=tz)), tz)

    assert Period.DAY.next(start, tz) - start == hours * HOUR
    assert len(list(pairwise(Period.HOUR.bounds(start, Period.DAY.next(start, tz), tz)))) == hours


def test_hours_of_a_zone_begin_where_its_clock_shows_a_whole_one() -> None:
    noon = micros_of(datetime(2026, 5, 4, 12, 10, tzinfo=UTC))

    assert Period.HOUR.floor(noon, ZoneInfo("Asia/Kolkata")) == noon - 40 * MINUTE
    assert Period.HOUR.floor(noon, ZoneInfo("UTC")) == noon - 10 * MINUTE
