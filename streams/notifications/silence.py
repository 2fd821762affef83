"""Silences and acknowledgements: what people set up so as not to be told, on `chat.silences`.

A silence holds back the alerts that all its matchers match, from its start to its end. An acknowledgement
holds back one alert, until it resolves.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas.time import Micros, micros_of
from streams.notifications import pattern
from streams.notifications.errors import Fault, SilenceError

Operator = Literal["=", "!=", "=~"]

_LONGEST: Final = timedelta(days=366)
_MATCHER = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*(=~|!=|=)\s*(.*?)\s*", re.DOTALL)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Matcher(_Model):
    """A condition on one property of an alert; `routing.properties` says which there are. A property that
    an alert doesn't have is empty text. Written as an object, or as text: `model=~gpt-4*`."""

    name: str = Field(pattern=r"^[A-Za-z_][\w.\-]*$", max_length=100)
    operator: Operator
    value: str = Field(max_length=pattern.MOST_CHARACTERS)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        parts = _MATCHER.fullmatch(given)
        if parts is None:
            raise ValueError(
                f"{given!r} is no matcher; write one as in model=gpt-4o, team!=search, model=~gpt-*"
            )
        return {"name": parts[1], "operator": parts[2], "value": parts[3]}

    @model_validator(mode="after")
    def _pattern_is_bounded(self) -> Self:
        if self.operator == "=~" and (fault := pattern.fault_of(self.value)) is not None:
            raise ValueError(fault)
        return self

    def matches(self, properties: Mapping[str, str]) -> bool:
        """Whether an alert with these properties meets the condition."""
        value = properties.get(self.name, "")
        if self.operator == "=~":
            return pattern.matches(self.value, value)
        return (value == self.value) == (self.operator == "=")


class Silence(_Model):
    """Alerts that all matchers match are held back from `starts_at` until `ends_at`."""

    kind: Literal["silence"] = "silence"
    id: str = Field(min_length=1, max_length=100)
    matchers: tuple[Matcher, ...] = Field(min_length=1, max_length=20)
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    author: str = Field(min_length=1, max_length=200)
    reason: str = Field(min_length=1, max_length=1_000)

    @field_validator("matchers")
    @classmethod
    def _not_of_everything(cls, matchers: tuple[Matcher, ...]) -> tuple[Matcher, ...]:
        if all(matcher.matches({}) for matcher in matchers):
            raise ValueError(
                "these matchers also match what has none of the properties, which is almost everything: "
                "add one that asks for a value, such as severity=warning"
            )
        return matchers

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at: a silence ends after it starts")
        if self.ends_at - self.starts_at > _LONGEST:
            raise ValueError(f"ends_at: a silence lasts {_LONGEST.days} days at most")
        return self

    def active(self, now: Micros) -> bool:
        """Whether it holds at this moment."""
        return micros_of(self.starts_at) <= now < micros_of(self.ends_at)

    def matches(self, properties: Mapping[str, str]) -> bool:
        """Whether it is about an alert with these properties."""
        return all(matcher.matches(properties) for matcher in self.matchers)


class Acknowledgement(_Model):
    """Somebody has taken charge of an alert: nothing more is told of it but that it has resolved."""

    kind: Literal["acknowledgement"] = "acknowledgement"
    id: str = Field(min_length=1, max_length=100)
    alert_id: str = Field(min_length=1, max_length=100)
    author: str = Field(min_length=1, max_length=200)
    reason: str = Field("", max_length=1_000)
    acknowledged_at: AwareDatetime


def acknowledgement_id(alert_id: str) -> str:
    """The id under which the acknowledgement of an alert stands on `chat.silences`: one for each alert."""
    return f"ack_{alert_id}"


def parse_silence(definition: Mapping[str, Any]) -> Silence | Acknowledgement:
    """What a Definition on `chat.silences` holds. Without `kind` it is a silence. Raises SilenceError."""
    model = Acknowledgement if definition.get("kind") == "acknowledgement" else Silence
    try:
        return model.model_validate(definition)
    except ValidationError as error:
        raise SilenceError(_faults(error, model.__name__.lower())) from error


def _faults(error: ValidationError, root: str) -> tuple[Fault, ...]:
    found = error.errors(include_url=False, include_input=False)
    places = [fault["loc"] for fault in found]
    return tuple(
        Fault(".".join(map(str, fault["loc"])) or root, fault["msg"].removeprefix("Value error, "))
        for fault in found
        # A list of which nothing is left is short, too: that is told where its items are.
        if not any(place[: len(fault["loc"])] == fault["loc"] != place for place in places)
    )
