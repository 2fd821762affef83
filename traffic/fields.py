"""From the text in a CSV column to the value of an event's field."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import polars as pl

from traffic.errors import ColumnMapError

Parser = Callable[[str], Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST = 2**63 - 1
_LONGEST_TEXT = 256
_YEAR_2200_US = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
_UNKNOWN = ("", "-", "null", "none", "nan", "na", "n/a")
_TRUE, _FALSE = ("1", "true", "t", "yes", "y"), ("0", "false", "f", "no", "n")


def _whole(text: str) -> int:
    value = int(text)
    if not 0 <= value <= _MOST:
        raise ValueError
    return value


def _scaled(scale: Decimal) -> Parser:
    def parse(text: str) -> int:
        try:
            value = Decimal(text) * scale
        except ArithmeticError:  # no number, or one that is too large even for a Decimal
            raise ValueError from None
        if not value.is_finite() or not 0 <= value <= _MOST:
            raise ValueError
        return int(value.to_integral_value())

    return parse


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)  # cuts what lies behind the microseconds
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _within(parse: Parser, end: int) -> Parser:
    def bounded(text: str) -> Any:
        value = parse(text)
        if not 0 <= value < end:
            raise ValueError
        return value

    return bounded


def _text(text: str) -> str:
    if len(text) > _LONGEST_TEXT or not text.isprintable():
        raise ValueError
    return text


def _truth(text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise ValueError


@dataclass(frozen=True)
class Kind:
    """How one kind of field is written in a file: its units (the first is the default) and its type."""

    units: Mapping[str, Parser]
    means: str
    dtype: pl.DataType | type[pl.DataType]


def _kind(means: str, dtype: type[pl.DataType], **units: Parser) -> Kind:
    return Kind(MappingProxyType(units), means, dtype)


def _time_units(smallest: int) -> dict[str, Parser]:
    return {
        name: _scaled(Decimal(scale) / smallest)
        for name, scale in (("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1))
    }


TEXT = _kind("text of at most 256 printable characters", pl.String, text=_text)
NOTE = _kind("text", pl.String, text=str)
COUNT = _kind("a whole number", pl.Int64, count=_whole)
TRUTH = _kind("true or false", pl.Boolean, bool=_truth)
_MOMENTS = {"iso": _moment, **_time_units(1_000)}
MOMENT = _kind(
    "a time between 1970 and 2200",
    pl.Int64,
    **{unit: _within(parse, _YEAR_2200_US) for unit, parse in _MOMENTS.items()},
)
DURATION = _kind("a duration", pl.Int64, **_time_units(1_000))
COST = _kind(
    "a cost",
    pl.Int64,
    usd=_scaled(Decimal(10**9)),
    micro_usd=_scaled(Decimal(10**3)),
    nano_usd=_scaled(Decimal(1)),
)

FIELDS: Mapping[str, Kind] = MappingProxyType(
    {
        "occurred_at": MOMENT,
        **dict.fromkeys(
            (
                "service",
                "instance",
                "region",
                "provider",
                "model",
                "operation",
                "space_id",
                "user_id",
                "conversation_id",
                "workflow",
                "workflow_version",
                "experiment",
                "variant",
                "error_type",
                "finish_reason",
            ),
            TEXT,
        ),
        **dict.fromkeys(("cache_hit", "streamed"), TRUTH),
        **dict.fromkeys(
            (
                "prompt_tokens",
                "cached_tokens",
                "cache_write_tokens",
                "cache_write_1h_tokens",
                "prompt_audio_tokens",
                "completion_tokens",
                "reasoning_tokens",
                "completion_audio_tokens",
                "output_chunks",
                "retries",
            ),
            COUNT,
        ),
        "cost_nano_usd": COST,
        **dict.fromkeys(("total_us", "context_us", "model_us", "first_token_us", "last_token_us"), DURATION),
    }
)
"""The fields of RequestEvent that a column can fill."""


@dataclass(frozen=True)
class Column:
    """A column of the file, and how to read it."""

    name: str
    kind: Kind
    unit: str | None = None
    required: bool = False

    def value(self, text: str) -> Any:
        """The value; None for an empty cell. Raises ValueError, with the reason, if it can't be one."""
        text = text.strip()
        if text.lower() in _UNKNOWN:
            if self.required:
                raise ValueError(f"{self.name} is empty")
            return None
        unit = self.unit or next(iter(self.kind.units))
        try:
            return self.kind.units[unit](text)
        except (ValueError, OverflowError):
            raise ValueError(f"{self.name}: {text[:40]!r} is not {self.kind.means} ({unit})") from None


def column_map(pairs: list[str]) -> dict[str, Column]:
    """From `field=column` and `field=column:unit` to columns by field. Raises ColumnMapError.

    What follows the last colon is the unit only if it is one of the field's.
    """
    found: dict[str, Column] = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        field = field.strip()
        if not equals or not column:
            raise ColumnMapError(f"--map {pair}: write field=column, or field=column:unit")
        kind = FIELDS.get(field)
        if kind is None:
            raise ColumnMapError(f"--map {pair}: there is no field {field}; there are {', '.join(FIELDS)}")
        if field in found:
            raise ColumnMapError(f"--map {pair}: {field} is mapped twice")
        name, _, unit = column.rpartition(":")
        if name and unit in kind.units:
            found[field] = Column(name, kind, unit, field == "occurred_at")
        else:
            found[field] = Column(column, kind, None, field == "occurred_at")
    if "occurred_at" not in found:
        raise ColumnMapError(
            "--map must say which column holds the time, e.g. --map occurred_at=timestamp, "
            "or occurred_at=created:ms for milliseconds since 1970"
        )
    return found
