"""Times and spans as callers write and read them."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from api.errors import BadParameterError
from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros, micros_of, zone_of

Clock = Callable[[], Micros]
"""Now, in microseconds since 1970, UTC."""

_UNITS: Final = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_YEAR_2200: Final = micros_of(datetime(2200, 1, 1, tzinfo=UTC))


def system_clock() -> Micros:
    """The system's clock."""
    return micros_of(datetime.now(UTC))


def to_time(micros: Micros) -> datetime:
    """Microseconds since 1970 as an aware datetime, UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def parse_span(text: str, where: str) -> Micros:
    """A span such as `30s`, `5m`, `6h`, in microseconds. Raises BadParameterError."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise BadParameterError(
            f"{text!r} is no span of time: write a whole number and s, m, h or d, such as 5m.", where=where
        )
    return int(match[1]) * _UNITS[match[2]]


def parse_time(text: str, where: str) -> Micros:
    """An ISO 8601 time, by default in UTC, in microseconds since 1970. Raises BadParameterError."""
    try:
        # In a query string an unescaped "+" arrives as a space.
        time = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise BadParameterError(
            f"{text!r} is no time: write ISO 8601, such as 2026-05-04T10:00:00Z.", where=where
        ) from None
    found = micros_of(time if time.tzinfo else time.replace(tzinfo=UTC))
    if not 0 <= found < _YEAR_2200:
        raise BadParameterError(f"{text!r} lies outside of 1970 to 2200.", where=where)
    return found


def parse_zone(text: str, where: str) -> ZoneInfo:
    """A time zone by its name in the IANA database. Raises BadParameterError."""
    try:
        return zone_of(text)
    except ValueError:
        raise BadParameterError(
            f"{text!r} is no time zone: write a name as in Europe/Berlin, or UTC.", where=where
        ) from None
