"""Figures as people write them: `5m`, `10 %`, `200 ms`, `3 USD`, `2M tokens`, `100/s`.

What is written is read exactly, in decimals. A number without a unit is taken only where there is no
doubt: for counts, and for 0. Everything else is refused, with what would be right.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from schemas.time import SECOND
from streams.alerts.durations import SPANS
from streams.alerts.errors import UnitError

_FIGURE: Final = re.compile(
    r"(?P<sign>[+\-−]?)\s*"
    r"(?P<number>(?:\d{1,3}(?:[ _]\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*"
    r"(?P<rest>\D.*)?"
)
_DOLLARS: Final = re.compile(r"^\$\s*([^\s/]+)")
_LONGEST: Final = 64
_MOST_DIGITS: Final = 24
"""Longer numbers are written with an exponent."""

_MAGNITUDES: Final[Mapping[str, int]] = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_BYTES: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}


@dataclass(frozen=True)
class Unit(ABC):
    """The unit of a figure: reads it, writes it so that it reads the same, and shows it rounded."""

    symbol: str
    """As alerts state it: `ms`, `USD`, `tokens`, `ratio`, `1/s`, `number`, `deviations`."""
    example: str
    bare: bool = False
    """A number without a unit is in no doubt."""

    def parse(self, written: object) -> float:
        """What is written, in this unit. Raises UnitError."""
        if isinstance(written, bool) or not isinstance(written, str | int | float):
            raise UnitError("this is no figure", self.right)
        if not isinstance(written, str):
            if not math.isfinite(written):
                raise UnitError(f"{written} is no figure", self.right)
            if written == 0 or self.bare:
                return float(written)
            raise UnitError(f"{written:g} has no unit", self.right)
        text = _DOLLARS.sub(r"\1 USD", written.strip())
        found = _FIGURE.fullmatch(text) if len(text) <= _LONGEST else None
        if found is None:
            raise UnitError(f"{text[:_LONGEST]!r} is no figure", self.right)
        rest = (found["rest"] or "").strip()
        if rest.startswith(","):
            raise UnitError(
                f"{text!r} has a comma", "write 1500 or 1 500 for thousands, 1.5 for a part of one"
            )
        number = Decimal(re.sub(r"[ _]", "", found["number"]))
        factor = self._factor(rest) if rest or self.bare or number else Decimal(0)
        if factor is None:
            message = f"{text!r} has no unit" if not rest else f"{text!r}: {rest!r} is no unit of this figure"
            raise UnitError(message, self.right)
        value = float(number * factor)
        if not math.isfinite(value):
            raise UnitError(f"{text!r} is too large", self.right)
        return -value if found["sign"] in ("-", "−") else value

    @property
    def right(self) -> str:
        """What would be right, in words."""
        return f"write it as in {self.example}"

    @abstractmethod
    def _factor(self, unit: str) -> Decimal | None:
        """By what a figure with `unit` behind it is multiplied; None when that is no unit of this."""

    @abstractmethod
    def write(self, value: float) -> str:
        """The inverse of `parse`, exactly."""

    @abstractmethod
    def show(self, value: float) -> str:
        """For a person: rounded to three or four digits."""


class Share(Unit):
    """A share, 1 being all of it: `10 %`."""

    def _factor(self, unit: str) -> Decimal | None:
        return {"%": Decimal("0.01"), "percent": Decimal("0.01"), "‰": Decimal("0.001")}.get(unit)

    def write(self, value: float) -> str:
        return f"{_plain(_exact(value).scaleb(2))} %"

    def show(self, value: float) -> str:
        return f"{rounded(100 * value)} %"


class Milliseconds(Unit):
    """A latency, in milliseconds."""

    def _factor(self, unit: str) -> Decimal | None:
        span = SPANS.get(unit)
        return None if span is None else Decimal(span).scaleb(-3)

    def write(self, value: float) -> str:
        long = abs(value) >= 1_000
        return f"{_plain(_exact(value).scaleb(-3 if long else 0))} {'s' if long else 'ms'}"

    def show(self, value: float) -> str:
        return f"{rounded(value / 1_000)} s" if abs(value) >= 1_000 else f"{rounded(value)} ms"


class Money(Unit):
    """Costs, in US dollars."""

    @property
    def right(self) -> str:
        return f"costs are in US dollars: {super().right}"

    def _factor(self, unit: str) -> Decimal | None:
        magnitude, _, name = unit.rpartition(" ")
        if name not in ("USD", "usd", "$", "dollar", "dollars") or magnitude not in _MAGNITUDES:
            return None
        return Decimal(_MAGNITUDES[magnitude])

    def write(self, value: float) -> str:
        return f"{_plain(_exact(value))} USD"

    def show(self, value: float) -> str:
        return f"{rounded(value)} USD"


@dataclass(frozen=True)
class Count(Unit):
    """A number of things, with or without their name: `500`, `2M tokens`."""

    bare: bool = True
    names: tuple[str, ...] = ()
    """What else the things may be called; singular and plural."""

    def _factor(self, unit: str) -> Decimal | None:
        found = re.fullmatch(r"([kKMG]?)(?:(?:^|(?<=[kKMG])|\s+)([A-Za-z_ ]+))?", unit)
        if found is None:
            return None
        magnitude, name = found.groups()
        if name is not None and name.strip() not in (self.symbol, *self.names):
            return None
        return Decimal(_MAGNITUDES[magnitude])

    def write(self, value: float) -> str:
        return f"{_plain(_exact(value))} {self.symbol}"

    def show(self, value: float) -> str:
        return f"{_short(value)} {self.symbol}"


class Number(Unit):
    """A sampled state's figure, which has no unit; sizes may be written in bytes."""

    def _factor(self, unit: str) -> Decimal | None:
        factor = _MAGNITUDES.get(unit) or _BYTES.get(unit)
        return None if factor is None else Decimal(factor)

    def write(self, value: float) -> str:
        return _plain(_exact(value))

    def show(self, value: float) -> str:
        return _short(value)


class Deviations(Unit):
    """How many standard deviations."""

    def _factor(self, unit: str) -> Decimal | None:
        return Decimal(1) if unit in ("", "\u03c3", "sd", "deviations", "standard deviations") else None

    def write(self, value: float) -> str:
        return f"{_plain(_exact(value))} sd"

    def show(self, value: float) -> str:
        return f"{rounded(value)} standard deviations"


@dataclass(frozen=True)
class Rate(Unit):
    """So much of another unit a second: `100/s`, `20k tokens/min`, `3 USD/h`."""

    of: Unit = Count("requests", "100")
    named: bool = True
    """Whether the other unit is written, too."""
    spoken: tuple[tuple[str, int], ...] = ()
    """Units that are called by a word: (`rps`, 1), (`rpm`, 60), with their seconds."""

    def _factor(self, unit: str) -> Decimal | None:
        if unit in dict(self.spoken):
            return 1 / Decimal(dict(self.spoken)[unit])
        thing, slash, span = re.sub(r"(^|\s+)per\s+", "/", unit).partition("/")
        seconds, factor = SPANS.get(span.strip()), self.of._factor(thing.strip())
        if not slash or seconds is None or factor is None:
            return None
        return factor * SECOND / Decimal(seconds)

    def write(self, value: float) -> str:
        return f"{self.of.write(value) if self.named else _plain(_exact(value))}/s"

    def show(self, value: float) -> str:
        return f"{self.of.show(value) if self.named else _short(value)}/s"


def _exact(value: float) -> Decimal:
    """The shortest decimal that reads as this number."""
    return Decimal(repr(value))


def _plain(number: Decimal) -> str:
    text = format(number, "f")
    if len(text) > _MOST_DIGITS:
        return str(number.normalize())
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def rounded(value: float) -> str:
    """Three significant digits, or all of those before the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(2 - math.floor(math.log10(abs(value))), 0)
    return _plain(Decimal(f"{value:.{digits}f}"))


def _short(value: float) -> str:
    for magnitude, factor in (("G", 10**9), ("M", 10**6), ("k", 10**4)):
        if abs(value) >= factor:
            return f"{rounded(value / min(factor, _MAGNITUDES[magnitude]))}{magnitude}"
    return rounded(value)


SHARE: Final = Share("ratio", "10 %")
LATENCY: Final = Milliseconds("ms", "200 ms or 5 s")
MONEY: Final = Money("USD", "3 USD or 0.25 USD")
NUMBER: Final = Number("number", "2, 1.5k or 512MiB", bare=True)
DEVIATIONS: Final = Deviations("deviations", "3", bare=True)
COUNTS: Final = {
    "requests": Count("requests", "100 or 2k requests", names=("request", "errors", "error", "hits", "hit")),
    "tokens": Count("tokens", "500k tokens or 2M tokens", names=("token",)),
}
RATES: Final = {
    "requests": Rate(
        "1/s", "100/s or 3000/min", of=COUNTS["requests"], named=False, spoken=(("rps", 1), ("rpm", 60))
    ),
    "tokens": Rate("tokens/s", "500 tokens/s or 20k tokens/min", of=COUNTS["tokens"]),
    "USD": Rate("USD/s", "3 USD/h", of=MONEY),
}
UNITS: Final[Mapping[str, Unit]] = {
    unit.symbol: unit
    for unit in (SHARE, LATENCY, MONEY, NUMBER, DEVIATIONS, *COUNTS.values(), *RATES.values())
}
"""By the symbol that alerts state."""


def show(value: float | None, symbol: str) -> str:
    """A figure of an alert for a person: `12.3 %`, `5.2 s`, `1.2M tokens`; `no data` for null."""
    return "no data" if value is None else UNITS[symbol].show(value)
