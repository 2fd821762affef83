"""Time: microseconds since 1970, UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Micros = int

SECOND: Final[Micros] = 1_000_000
MINUTE: Final[Micros] = 60 * SECOND
HOUR: Final[Micros] = 60 * MINUTE
DAY: Final[Micros] = 24 * HOUR

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def micros(span: timedelta) -> Micros:
    """A span of time in microseconds."""
    return span // timedelta(microseconds=1)


def micros_of(time: datetime) -> Micros:
    """An aware datetime in microseconds since 1970, UTC."""
    return micros(time - EPOCH)


def clock() -> Micros:
    """Now. For the edge: what is pure takes the time as an argument."""
    return time.time_ns() // 1000


def zone_of(name: str) -> ZoneInfo:
    """The time zone of this name in the IANA database. Raises ValueError when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None
