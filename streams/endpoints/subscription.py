"""What an endpoint wants to be told of."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.panes import ONE_MINUTE, PANES

ALERT_TYPES: Final = ("alert.firing", "alert.resolved", "alert.reminder")
WINDOW_CLOSED: Final = "window.closed"
REQUEST_FAILED: Final = "request.failed"
SPAN_ENDED: Final = "span.ended"
ENDPOINT_FAILING: Final = "endpoint.failing"
ENDPOINT_TEST: Final = "endpoint.test"
SUBSCRIBABLE: Final = (*ALERT_TYPES, WINDOW_CLOSED, REQUEST_FAILED, SPAN_ENDED, ENDPOINT_FAILING)
"""The types that can be subscribed to; `endpoint.test` goes to whoever it is sent to."""

Severity = Literal["info", "warning", "error", "critical"]
SpanKind = Literal["other", "workflow", "step", "agent", "plugin", "tool", "model"]
if TYPE_CHECKING:
    WindowGrouping = str
    Pane = str
else:
    WindowGrouping = Literal[tuple(GROUPINGS)]
    Pane = Literal[tuple(PANES)]
Operator = Literal["=", "!=", ">", ">=", "<", "<=", "present", "absent"]

Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""A text in which `*` stands for any characters."""

_NUMERIC: Final = {
    ">": float.__gt__,
    ">=": float.__ge__,
    "<": float.__lt__,
    "<=": float.__le__,
}
_MOST: Final = 100


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Atomic groups: each piece is looked for once, so that no pattern can make matching explode.
    first, *others = pattern.split("*")
    if not others:
        return re.compile(re.escape(first))
    middle = "".join(f"(?>.*?{re.escape(piece)})" for piece in others[:-1])
    return re.compile(f"{re.escape(first)}{middle}.*{re.escape(others[-1])}", re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Whether `text` is as `pattern` says, as a whole; `*` stands for any characters."""
    return _compiled(pattern).fullmatch(text) is not None


def _any(patterns: list[str], text: str) -> bool:
    return any(matches(pattern, text) for pattern in patterns)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PropertyFilter(_Part):
    """A condition on a property of the event's `data`; a dot leads into an object (`labels.team`).

    `=` and `!=` take several values, with `*` as a wildcard: one of them, or none of them. An absent (or
    null) property is equal to nothing. `>`, `>=`, `<`, `<=` take one number.
    """

    property: str = Field(min_length=1, max_length=200)
    operator: Operator = "="
    values: list[str | float | bool] = Field(default=[], max_length=_MOST)

    @model_validator(mode="before")
    @classmethod
    def _one_value(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "value" in given and "values" not in given:
            return {
                **{key: each for key, each in given.items() if key != "value"},
                "values": [given["value"]],
            }
        return given

    @model_validator(mode="after")
    def _fitting(self) -> "PropertyFilter":
        if self.operator in ("present", "absent"):
            if self.values:
                raise ValueError(f"«{self.operator}» takes no values, leave them out")
        elif not self.values:
            raise ValueError(f"«{self.operator}» needs a value, as in value: timeout")
        elif self.operator in _NUMERIC and (
            len(self.values) != 1 or isinstance(self.values[0], bool) or _number(self.values[0]) is None
        ):
            raise ValueError(f"«{self.operator}» takes one number, as in value: 5000000")
        return self

    def holds(self, data: Mapping[str, Any]) -> bool:
        """Whether it holds for an event with this `data`."""
        value = _property(data, self.property)
        if self.operator in ("present", "absent"):
            return (value is not None) == (self.operator == "present")
        if self.operator in _NUMERIC:
            figure = None if isinstance(value, bool) else _number(value)
            limit = _number(self.values[0])
            return figure is not None and limit is not None and _NUMERIC[self.operator](figure, limit)
        found = value is not None and any(_equal(value, wanted) for wanted in self.values)
        return found == (self.operator == "=")


def _property(data: Mapping[str, Any], path: str) -> Any:
    if path in data:
        return data[path]
    value: Any = data
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (str, int, float)) else None
    except ValueError:
        return None


def _equal(value: object, wanted: str | float | bool) -> bool:
    if isinstance(wanted, bool) or isinstance(value, bool):
        return _text(value) == _text(wanted)
    if isinstance(wanted, str):
        values = value if isinstance(value, (list, tuple)) else (value,)
        return any(matches(wanted, _text(each)) for each in values)
    return _number(value) == wanted


class Subscription(_Part):
    """Which events an endpoint wants: those of one of `types` for which everything else holds, too.

    `severities`, `labels` and `rules` narrow alerts; `groupings` and `panes` narrow windows; `kinds` narrows
    spans; each says nothing about other types, and nothing at all when empty. `filters` apply to all types.
    """

    types: list[Pattern] = Field(min_length=1, max_length=_MOST)
    """`alert.firing`, `alert.*`, `*`, ..."""
    severities: list[Severity] = []
    labels: dict[str, list[Pattern]] = Field(default={}, max_length=_MOST)
    """Of each label one of the values (with wildcards)."""
    rules: list[Pattern] = Field(default=[], max_length=_MOST)
    """Ids of rules (with wildcards)."""
    groupings: list[WindowGrouping] = []
    panes: list[Pane] = [ONE_MINUTE.name]
    kinds: list[SpanKind] = []
    filters: list[PropertyFilter] = Field(default=[], max_length=_MOST)

    @field_validator("labels", mode="before")
    @classmethod
    def _one_value(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {key: [value] if isinstance(value, str) else value for key, value in given.items()}
        return given

    @field_validator("types")
    @classmethod
    def _known(cls, types: list[str]) -> list[str]:
        for pattern in types:
            if not any(matches(pattern, known) for known in SUBSCRIBABLE):
                raise ValueError(
                    f"there are no events of the type «{pattern}», write one of {', '.join(SUBSCRIBABLE)}, "
                    "or a pattern as in alert.*"
                )
        return types

    def takes(self, type_: str) -> bool:
        """Whether events of this type can be meant at all."""
        return _any(self.types, type_)

    def wants(self, type_: str, data: Mapping[str, Any]) -> bool:
        """Whether the event of this type, with these properties, is meant.

        Of an alert `data` has `severity`, `rule_id` and `labels` (an object); of a window `grouping` and
        `pane`; of a span `kind`.
        """
        return (
            self.takes(type_) and self._meant(type_, data) and all(each.holds(data) for each in self.filters)
        )

    def _meant(self, type_: str, data: Mapping[str, Any]) -> bool:
        if type_ in ALERT_TYPES:
            return self._means_alert(data)
        if type_ == WINDOW_CLOSED:
            return (not self.groupings or data.get("grouping") in self.groupings) and (
                not self.panes or data.get("pane") in self.panes
            )
        if type_ == SPAN_ENDED:
            return not self.kinds or data.get("kind") in self.kinds
        return True

    def _means_alert(self, data: Mapping[str, Any]) -> bool:
        if self.severities and data.get("severity") not in self.severities:
            return False
        if self.rules and not _any(self.rules, str(data.get("rule_id", ""))):
            return False
        labels = data.get("labels") or {}
        return all(
            key in labels and _any(patterns, str(labels[key])) for key, patterns in self.labels.items()
        )
