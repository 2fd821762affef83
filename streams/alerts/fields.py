"""The types of a rule's fields: read as people write them, dumped to JSON so that they read the same."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema
from pydantic.functional_validators import AfterValidator

from schemas.time import Micros
from streams.alerts.durations import parse_duration, write_duration
from streams.alerts.errors import FieldError
from streams.alerts.units import SHARE

Severity = Literal["info", "warning", "error", "critical"]
NoData = Literal["keep", "ok", "alert"]
Operator = Literal[">", ">=", "<", "<="]
PaneName = Literal["1s", "1m"]
Calendar = Literal["day", "week", "month"]

OPERATORS: Final[dict[str, Operator]] = {"above": ">", "at least": ">=", "below": "<", "at most": "<="}
"""How operators may be written in words: YAML takes a bare > for something else."""
CALENDAR: Final[tuple[Calendar, ...]] = ("day", "week", "month")

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TAKEN: Final = ("alertname", "severity", "rule", "kind", "grouping")
_MOST_LABELS: Final = 16
_MOST_VALUES: Final = 100

WRITTEN: Final = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})
"""What a figure with a unit looks like from outside: text, or a number where there is no doubt."""


def _duration(written: object) -> Micros:
    return parse_duration(written)


def _period(written: object) -> Calendar | Micros:
    if written in CALENDAR:
        return CALENDAR[CALENDAR.index(written)]
    try:
        return parse_duration(written)
    except FieldError as error:
        raise FieldError(
            error.message, "write day, week or month, or a rolling span in hours or days, such as 24h or 30d"
        ) from error


def _operator(written: object) -> object:
    if written in ("", None):
        raise FieldError("there is no operator here", "in YAML > and < need quotes; or write above or below")
    return OPERATORS.get(written.strip(), written.strip()) if isinstance(written, str) else written


def _id(written: str) -> str:
    if not _ID.fullmatch(written):
        raise FieldError(
            f"{written[:80]!r} is no id", "write small letters, digits, - and _, at most 64, as in error-rate"
        )
    return written


def _rule_pattern(written: str) -> str:
    _id(written.replace("*", "x"))
    return written


def _labels(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) > _MOST_LABELS:
        raise FieldError(f"these are {len(labels)} labels", f"at most {_MOST_LABELS}")
    for name, value in labels.items():
        if not _LABEL.fullmatch(name):
            raise FieldError(
                f"{name[:80]!r} is no label", "write letters, digits and _, at most 64, as in team"
            )
        if name in _TAKEN:
            raise FieldError(f"every alert has a {name} of its own", "choose another name", name)
        if not 0 < len(value) <= 256:
            raise FieldError("a label's value has 1 to 256 characters", "", name)
    return labels


def _filter(written: object) -> object:
    if not isinstance(written, dict):
        return written
    return {key: [value] if isinstance(value, str) else value for key, value in written.items()}


def _values(values: tuple[str, ...]) -> tuple[str, ...]:
    if not 0 < len(values) <= _MOST_VALUES:
        raise FieldError(
            f"{len(values)} values are given", f"give 1 to {_MOST_VALUES}; * stands for anything"
        )
    return values


def _dumped_period(period: Calendar | Micros) -> str:
    return period if isinstance(period, str) else write_duration(period)


RuleId = Annotated[str, AfterValidator(_id)]
RulePattern = Annotated[str, AfterValidator(_rule_pattern)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Duration = Annotated[
    Micros,
    BeforeValidator(_duration),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["5m", "90s", "1h30m", "7d"]}),
]
"""Microseconds; written as `5m`."""
ShareOf = Annotated[
    float,
    BeforeValidator(SHARE.parse),
    PlainSerializer(SHARE.write, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["10 %", "150 %"]}),
]
"""A share, 1 being all; written as `10 %`."""
Period = Annotated[
    Calendar | Micros,
    BeforeValidator(_period),
    PlainSerializer(_dumped_period, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["day", "week", "month", "24h", "30d"]}),
]
Operated = Annotated[Operator, BeforeValidator(_operator)]
Labels = Annotated[dict[str, str], AfterValidator(_labels)]
Filter = Annotated[dict[str, Annotated[tuple[str, ...], AfterValidator(_values)]], BeforeValidator(_filter)]


def described(description: str, **more: Any) -> Any:
    """A field with its description."""
    return Field(description=description, **more)


def without_default(schema: dict[str, Any]) -> None:
    """Takes the default out of a field's JSON schema: it depends on another field."""
    schema.pop("default", None)
