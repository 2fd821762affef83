"""Quiet hours: times of the week at which a rule's alerts wait to be told."""

import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Annotated, Final, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.time import Micros, micros_of
from streams.alerts.errors import FieldError
from streams.alerts.zones import ZoneName

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = get_args(Weekday)
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d|24:00")


class QuietHours(BaseModel):
    """A span of the day, on some days of the week. It may pass midnight: it belongs to the day it begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Annotated[
        tuple[Weekday, ...],
        Field(description="The days on which it begins: mon, tue, wed, thu, fri, sat, sun."),
    ] = WEEKDAYS
    start: Annotated[str, Field(description="When it begins, by the clock: 22:00.")]
    end: Annotated[str, Field(description="When it ends: 07:00 is of the next day if that is earlier.")]
    timezone: Annotated[
        ZoneName | None,
        Field(description="By which clock, as in Europe/Berlin; the service's time zone if not given."),
    ] = None

    @field_validator("days")
    @classmethod
    def _some_day(cls, days: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
        if not days:
            raise FieldError("no day is named", "leave it out for every day")
        return tuple(day for day in WEEKDAYS if day in days)

    @field_validator("start", "end")
    @classmethod
    def _clock(cls, written: str) -> str:
        if not _CLOCK.fullmatch(written):
            raise FieldError(f"{written!r} is no time of day", "write it as in 07:30")
        return written

    def ends(self, now: Micros, zone: tzinfo) -> Micros | None:
        """When the quiet that `now` lies in ends; None while it isn't quiet. `zone` is the service's."""
        own = zone if self.timezone is None else ZoneInfo(self.timezone)
        today = datetime.fromtimestamp(now / 1_000_000, own).date()
        for day in (today - timedelta(days=1), today):
            if WEEKDAYS[day.weekday()] not in self.days:
                continue
            start, end = _at(day, self.start, own), _at(day, self.end, own)
            if self.end <= self.start:
                end = _at(day + timedelta(days=1), self.end, own)
            if start <= now < end:
                return end
        return None


def quiet_until(hours: Sequence[QuietHours], now: Micros, zone: tzinfo) -> Micros | None:
    """When it is no longer quiet by any of `hours`; None if it isn't quiet now. Spans that meet are one."""
    until: Micros | None = None
    for _ in range(8 * len(hours)):
        end = max((e for each in hours if (e := each.ends(until or now, zone)) is not None), default=None)
        if end is None:
            break
        until = end
    return until


def _at(day: date, clock: str, zone: tzinfo) -> Micros:
    if clock == "24:00":
        day, clock = day + timedelta(days=1), "00:00"
    return micros_of(datetime.combine(day, time.fromisoformat(clock), zone))
