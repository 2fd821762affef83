"""Durations as people write them: `5m`, `90 s`, `1h30m`, `2 days`."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.errors import UnitError

SPANS: Final[Mapping[str, Micros]] = {
    "us": 1,
    "µs": 1,
    "μs": 1,
    "ms": 1_000,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), SECOND),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), MINUTE),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("w", "week", "weeks"), 7 * DAY),
}
"""The units of time, by all their names."""
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([^\W\d_]+)\s*")
_PARTS: Final = {"d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1_000, "us": 1}
_LONGEST: Final = 64


def parse_duration(written: object) -> Micros:
    """A duration such as `5m`, `90 s`, `1h30m`, `2 days`, in microseconds. Raises UnitError."""
    right = "write a duration with its unit, such as 90s, 5m, 1h30m or 7d"
    if isinstance(written, bool) or not isinstance(written, str | int | float):
        raise UnitError("this is no duration", right)
    if not isinstance(written, str):
        raise UnitError(f"{written} has no unit", right)
    text = written.strip()
    if not 0 < len(text) <= _LONGEST:
        raise UnitError("this is no duration", right)
    total, at = Decimal(0), 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            bare = re.fullmatch(r"[\d.]+", text)
            raise UnitError(f"{text!r} has no unit" if bare else f"{text!r} is no duration", right)
        number, unit = part.groups()
        if unit not in SPANS:
            hint = "m is a minute; a month has no fixed length, write 30d" if unit[0] == "M" else right
            raise UnitError(f"{text!r}: there is no unit {unit!r}", hint)
        total += Decimal(number) * SPANS[unit]
        at = part.end()
    if total != int(total):
        raise UnitError(f"{text!r} is no whole number of microseconds", right)
    return int(total)


def write_duration(span: Micros) -> str:
    """The inverse of `parse_duration`: `5m`, `1h30m`, `1s500ms`."""
    parts = []
    for unit, length in _PARTS.items():
        count, span = divmod(span, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
