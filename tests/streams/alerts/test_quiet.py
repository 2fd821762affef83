"""Quiet hours are hours of a clock on a wall: they pass midnight and follow summer time."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from schemas.time import Micros, micros_of
from streams.alerts.quiet import QuietHours, quiet_until

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(start="22:00", end="07:00")


def at(written: str, zone: ZoneInfo | None = None) -> Micros:
    return micros_of(datetime.fromisoformat(written).replace(tzinfo=zone or UTC))


def until(hours: list[QuietHours], moment: Micros, zone: ZoneInfo | None = None) -> str | None:
    """The end of the quiet, by the clock of `zone`."""
    end = quiet_until(hours, moment, zone or UTC)
    return None if end is None else f"{datetime.fromtimestamp(end / 1e6, zone or UTC):%a %d %H:%M}"


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-06-03 21:59", None),
        ("2026-06-03 22:00", "Thu 04 07:00"),
        ("2026-06-04 00:00", "Thu 04 07:00"),
        ("2026-06-04 06:59:59.999999", "Thu 04 07:00"),
        ("2026-06-04 07:00", None),
    ],
)
def test_a_night_passes_midnight(moment: str, end: str | None) -> None:
    assert until([NIGHT], at(moment)) == end


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    weekend = [QuietHours(days=("fri", "sat"), start="22:00", end="07:00")]
    assert until(weekend, at("2026-06-05 23:00")) == "Sat 06 07:00"
    assert until(weekend, at("2026-06-07 03:00")) == "Sun 07 07:00"
    assert until(weekend, at("2026-06-05 03:00")) is None
    assert until(weekend, at("2026-06-07 23:00")) is None


def test_hours_are_those_of_the_service_or_of_the_zone_that_is_named() -> None:
    assert until([NIGHT], at("2026-06-03 20:30")) is None
    assert until([NIGHT], at("2026-06-03 20:30"), BERLIN) == "Thu 04 07:00"
    named = QuietHours(start="22:00", end="07:00", timezone="Europe/Berlin")
    assert until([named], at("2026-06-03 20:30")) == "Thu 04 05:00"


def test_hours_follow_summer_time() -> None:
    for day, hours in (("2026-03-28", 8), ("2026-10-24", 10), ("2026-06-03", 9)):
        start = at(f"{day} 22:00", BERLIN)
        end = quiet_until([NIGHT], start, BERLIN)
        assert end is not None
        assert end - start == hours * 3_600_000_000


def test_spans_that_meet_are_one() -> None:
    weekend = [
        NIGHT,
        QuietHours(days=("sat", "sun"), start="00:00", end="24:00"),
    ]
    assert until(weekend, at("2026-06-05 23:00")) == "Mon 08 07:00"


def test_a_whole_day_and_a_whole_week_of_quiet() -> None:
    day = QuietHours(start="09:00", end="09:00", days=("mon",))
    assert until([day], at("2026-06-01 09:00")) == "Tue 02 09:00"
    assert until([day], at("2026-06-02 09:00")) is None
    always = [QuietHours(start="00:00", end="24:00")]
    end = quiet_until(always, at("2026-06-01 12:00"), UTC)
    assert end is not None
    assert end > at("2026-06-08 00:00")


def test_without_hours_it_is_never_quiet() -> None:
    assert quiet_until([], at("2026-06-01 03:00"), UTC) is None
