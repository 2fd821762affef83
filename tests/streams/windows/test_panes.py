"""Panes at given moments: where they begin and end, to the microsecond."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.windows.panes import Pane

BERLIN = ZoneInfo("Europe/Berlin")


def at(*when: int, zone: tzinfo = UTC) -> Micros:
    """A moment in microseconds."""
    return round(datetime(*when, tzinfo=zone).timestamp()) * SECOND  # type: ignore[misc]


def starts(pane: Pane, *times: Micros) -> list[Micros]:
    return pane.starts(np.array(times, dtype=np.int64)).tolist()


def ends(pane: Pane, *times: Micros) -> list[Micros]:
    return pane.ends(np.array(times, dtype=np.int64)).tolist()


@pytest.mark.parametrize("length", [SECOND, MINUTE, HOUR])
def test_panes_of_a_fixed_length_begin_at_its_multiples(length: Micros) -> None:
    pane = Pane("fixed", 0, length)
    assert starts(pane, 0, length - 1, length, length + 1, 7 * length - 1) == [
        *(0, 0, length, length),
        6 * length,
    ]
    assert pane.end(3 * length) == 4 * length
    assert ends(pane, 3 * length, 0) == [4 * length, length]


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("UTC")])
def test_a_day_is_one_of_utc_unless_it_is_said_otherwise(zone: tzinfo) -> None:
    noon = at(2025, 11, 21, 12)
    for pane in (Pane("1d", 0), Pane("1d", 0, zone=zone)):
        assert starts(pane, noon, noon - 12 * HOUR, noon - 12 * HOUR - 1) == [
            noon - 12 * HOUR,
            noon - 12 * HOUR,
            noon - 36 * HOUR,
        ]
        assert pane.end(noon - 12 * HOUR) == noon + 12 * HOUR
        assert ends(pane, noon - 12 * HOUR, 0, 0) == [noon + 12 * HOUR, DAY, DAY]
        assert pane.live_only is False


@pytest.mark.parametrize("pane", [Pane("1m", 0, MINUTE), Pane("1d", 0), Pane("1d", 0, zone=BERLIN)])
def test_no_times_are_in_no_pane(pane: Pane) -> None:
    assert starts(pane) == ends(pane) == []
    assert pane.ends(np.array([], dtype=np.int64)).dtype == np.int64


def test_a_day_begins_at_midnight_of_its_zone_to_the_microsecond() -> None:
    pane = Pane("1d", 0, zone=BERLIN)
    midnight = at(2025, 7, 14, 22)
    times = [midnight - 1, midnight, midnight + 1, midnight + DAY - 1, midnight + DAY]
    assert starts(pane, *times) == [midnight - DAY, midnight, midnight, midnight, midnight + DAY]
    assert starts(pane, *times[::-1]) == [midnight + DAY, midnight, midnight, midnight, midnight - DAY]
    assert [starts(pane, time) for time in times[:2]] == [[midnight - DAY], [midnight]]


def test_days_have_23_24_or_25_hours() -> None:
    pane = Pane("1d", 0, zone=BERLIN)
    spring, autumn, winter = at(2025, 3, 29, 23), at(2025, 10, 25, 22), at(2025, 12, 24, 23)
    assert [pane.end(start) - start for start in (spring, autumn, winter)] == [23 * HOUR, 25 * HOUR, DAY]
    assert ends(pane, winter, spring, autumn, spring) == [
        winter + DAY,
        spring + 23 * HOUR,
        autumn + 25 * HOUR,
        spring + 23 * HOUR,
    ]


@pytest.mark.parametrize("apart", [1, 399, 400, 401, 20_000])
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Europe/Berlin"])
def test_days_that_lie_far_apart_are_found_as_those_side_by_side(zone: str, apart: int) -> None:
    """14 hours ahead of UTC, 11 behind, and between: midnight is on either of two days of UTC."""
    place = ZoneInfo(zone)
    first = datetime(2000, 1, 5, tzinfo=place)
    last = first + timedelta(days=apart)
    midnights = [round(day.timestamp()) * SECOND for day in (first, last)]
    times = [midnights[0], midnights[0] + 23 * HOUR - 1, midnights[1], midnights[1] + 22 * HOUR]
    assert starts(Pane("1d", 0, zone=place), *times) == [
        midnights[0],
        midnights[0],
        midnights[1],
        midnights[1],
    ]


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        # The clock goes from 0:00 to 1:00: the day begins at 1:00.
        ("Africa/Cairo", at(2023, 4, 27, 22), at(2023, 4, 28, 21)),
        # It goes from 1:00 to 0:00: the day begins at the first of two midnights.
        ("America/Havana", at(2023, 11, 5, 4), at(2023, 11, 6, 5)),
        # It went from 0:01 to 23:01 of the day before, which the day that has begun is not left for.
        ("America/St_Johns", at(2010, 11, 7, 2) + 30 * MINUTE, at(2010, 11, 8, 3) + 30 * MINUTE),
        # The day after this one was left out.
        ("Pacific/Apia", at(2011, 12, 29, 10), at(2011, 12, 30, 10)),
        ("Pacific/Apia", at(2011, 12, 30, 10), at(2011, 12, 31, 10)),
    ],
)
def test_a_day_begins_with_the_first_moment_that_shows_it(zone: str, start: Micros, end: Micros) -> None:
    pane = Pane("1d", 0, zone=ZoneInfo(zone))
    assert starts(pane, start, start + 1, end - 1, end) == [start, start, start, end]
    assert starts(pane, start - 1)[0] < start
    assert pane.end(start) == end
    assert pane.end(starts(pane, start - 1)[0]) == start


class PutForward(tzinfo):
    """A zone whose clock showed UTC, and was put forward once."""

    def __init__(self, when: datetime, by: timedelta) -> None:
        self._when = when
        self._by = by

    def utcoffset(self, dt: datetime | None) -> timedelta:
        assert dt is not None
        return self._by if dt.replace(tzinfo=None) >= self._when + self._by else timedelta()

    def fromutc(self, dt: datetime) -> datetime:
        return dt + self._by if dt.replace(tzinfo=None) >= self._when else dt

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> str:
        return "put forward"


@pytest.mark.parametrize(
    "before", [timedelta(seconds=1), timedelta(minutes=29, seconds=43), timedelta(hours=2)]
)
def test_where_the_clock_jumps_over_midnight_the_day_begins_with_the_jump(before: timedelta) -> None:
    jump = datetime(2025, 5, 3, tzinfo=UTC).replace(tzinfo=None) - before
    pane = Pane("1d", 0, zone=PutForward(jump, timedelta(hours=3)))
    begins = at(2025, 5, 3) - before // timedelta(microseconds=1)
    assert starts(pane, begins - 1, begins, at(2025, 5, 3)) == [at(2025, 5, 2), begins, begins]
    assert pane.end(at(2025, 5, 2)) == begins
    assert pane.end(begins) == at(2025, 5, 3, 21)
