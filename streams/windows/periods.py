"""Periods: minutes to months, as sums of panes. Days and longer ones are those of a time zone's calendar."""

from collections.abc import Iterator
from datetime import date, timedelta, tzinfo
from enum import StrEnum
from typing import Final

from schemas.time import DAY, EPOCH, HOUR, MINUTE, Micros, micros
from streams.windows.panes import local_time, midnight


class Period(StrEnum):
    """A length of time that figures are asked for by."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    HOUR = "1h"
    DAY = "1d"
    WEEK = "1w"
    """From Monday."""
    MONTH = "1mo"

    @property
    def length(self) -> Micros:
        """About, of those whose length differs."""
        return _LENGTHS[self]

    def floor(self, time: Micros, zone: tzinfo) -> Micros:
        """The start of the period that the time is in."""
        if self in _OF_THE_CLOCK:
            # An hour begins where the zone's clock shows a whole one: where that is half past by UTC, too.
            shown = time + _offset(time, zone)
            return time - shown % self.length
        return _start(self._first(_day(time, zone)), zone)

    def next(self, start: Micros, zone: tzinfo) -> Micros:
        """The start of the period behind the one that begins at `start`."""
        if self in _OF_THE_CLOCK:
            following = self.floor(start + self.length, zone)
            return following if following > start else start + self.length
        day = self._first(_day(start, zone))
        while (following := _start(day := self._after(day), zone)) <= start:
            pass  # a country has left that day out
        return following

    def bounds(self, start: Micros, end: Micros, zone: tzinfo) -> Iterator[Micros]:
        """Where the periods of [start, end) begin, and last where they end; `start` is the start of one."""
        while start < end:
            yield start
            start = self.next(start, zone)
        yield start

    def _first(self, day: date) -> date:
        if self is Period.WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self is Period.MONTH else day

    def _after(self, day: date) -> date:
        if self is Period.MONTH:
            return (day + timedelta(days=31)).replace(day=1)
        return day + timedelta(days=7 if self is Period.WEEK else 1)


_LENGTHS: Final = {
    Period.MINUTE: MINUTE,
    Period.FIVE_MINUTES: 5 * MINUTE,
    Period.HOUR: HOUR,
    Period.DAY: DAY,
    Period.WEEK: 7 * DAY,
    Period.MONTH: 30 * DAY,
}
_OF_THE_CLOCK: Final = (Period.MINUTE, Period.FIVE_MINUTES, Period.HOUR)


def _offset(time: Micros, zone: tzinfo) -> Micros:
    return micros(local_time(time, zone).utcoffset() or timedelta())


def _day(time: Micros, zone: tzinfo) -> date:
    return local_time(time, zone).date()


def _start(day: date, zone: tzinfo) -> Micros:
    return midnight((day - EPOCH.date()).days, zone)
