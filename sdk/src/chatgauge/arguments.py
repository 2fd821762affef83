"""Arguments as the record types take them. What can't be taken is left out and counted, never raised."""

import math
import operator
from collections.abc import Iterable, Mapping
from decimal import Decimal
from uuid import UUID

from chatgauge.errors import ConfigurationError
from chatgauge.notices import Notices

LONGEST_TEXT = 256
LONGEST_KEY = 64
MOST_ATTRIBUTES = 16

INVALID = "an argument could not be used"
DROPPED_ATTRIBUTE = "an attribute was left out"

_LARGEST_LONG = 2**63 - 1
_NANO = 1_000_000_000


def text(value: object, name: str, notices: Notices) -> str | None:
    """A text of at most 256 characters; integers and UUIDs are written out, longer texts are cut."""
    if value is None:
        return None
    if isinstance(value, str):
        plain = str.__str__(value)
    elif isinstance(value, (int, UUID)) and not isinstance(value, bool):
        plain = str(value)
    else:
        notices.count(INVALID, f"{name} must be text, not {type(value).__name__}")
        return None
    if len(plain) > LONGEST_TEXT:
        notices.count(INVALID, f"{name} is longer than {LONGEST_TEXT} characters and was cut")
        return plain[:LONGEST_TEXT]
    return plain or None


def whole(value: object, name: str, notices: Notices) -> int | None:
    """A whole number from 0 to 2^63 - 1."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        notices.count(INVALID, f"{name} must be a whole number, not {type(value).__name__}")
        return None
    if not 0 <= number <= _LARGEST_LONG:
        notices.count(INVALID, f"{name} must be from 0 to 2^63 - 1")
        return None
    return number


def nano_usd(usd: object, notices: Notices) -> int | None:
    """An amount in US dollars (int, float or Decimal), in 10^-9 dollars, rounded to even."""
    if not isinstance(usd, (int, float, Decimal)) or isinstance(usd, bool):
        notices.count(INVALID, f"cost must be a number of US dollars, not {type(usd).__name__}")
        return None
    if not math.isfinite(usd) or not 0 <= usd <= 1_000_000:
        notices.count(INVALID, "cost must be from 0 to 1,000,000 US dollars")
        return None
    return round(usd * _NANO)


def figure(value: object, name: str, notices: Notices) -> float | None:
    """A finite number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        notices.count(INVALID, f"{name} must be a finite number")
        return None
    return number


class AttributeList:
    """Which attributes may leave the process: none but the allowed ones, at most 16 an event."""

    def __init__(self, allowed: Iterable[str], notices: Notices) -> None:
        if isinstance(allowed, str):
            raise ConfigurationError("attributes must be a set of names, such as {'region', 'tier'}")
        self._allowed = frozenset(allowed)
        self._notices = notices
        for key in self._allowed:
            if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY or "=" in key:
                raise ConfigurationError(
                    f"attribute name {key!r} must have 1 to {LONGEST_KEY} characters, none of them '='"
                )

    def add(self, to: dict[str, str], attributes: Mapping[str, object]) -> None:
        """Put into `to` what is allowed of `attributes`; the rest is counted."""
        for key, value in attributes.items():
            if key not in self._allowed:
                self._notices.count(DROPPED_ATTRIBUTE, "its name is not in Gauge(attributes=...)")
            elif not isinstance(value, (str, int, float, bool)):
                self._notices.count(DROPPED_ATTRIBUTE, f"a {type(value).__name__} is no attribute value")
            elif len(written := str(value)) > LONGEST_TEXT:
                self._notices.count(DROPPED_ATTRIBUTE, f"its value has more than {LONGEST_TEXT} characters")
            elif key not in to and len(to) >= MOST_ATTRIBUTES:
                self._notices.count(DROPPED_ATTRIBUTE, f"an event takes {MOST_ATTRIBUTES} at most")
            else:
                to[key] = written


def pairs(attributes: Mapping[str, str]) -> list[str]:
    """Attributes as the records hold them."""
    return [f"{key}={value}" for key, value in attributes.items()]


def refuse(unknown: Iterable[str], notices: Notices) -> None:
    """Count arguments that don't exist; type checkers refuse them too."""
    for name in unknown:
        notices.count(INVALID, f"there is no argument called {name[:LONGEST_KEY]!r}")
