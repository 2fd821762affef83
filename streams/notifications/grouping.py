"""Which alerts are told together.

The alerts of a group go to one endpoint and have the properties in common by which the service groups (the
rule, by default). What comes for a group waits for `group_wait`, so that what happens at once is told at
once; after that the group is told of at most every `group_interval`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from schemas.time import MINUTE, SECOND, Micros

MOST_TOGETHER: Final = 200
"""Alerts in one notification."""

GroupId = tuple[str, str]
"""The endpoint, and the key."""


@dataclass(frozen=True)
class Intervals:
    """When groups are told of. Spans in microseconds."""

    group_wait: Micros = 300_000
    group_interval: Micros = MINUTE
    repeat_interval: Micros = 4 * 60 * MINUTE
    """Of alerts whose rule is unknown."""
    review: Micros = SECOND
    """How often it is looked whether what was held back still is."""


def key_of(properties: Mapping[str, str], group_by: Sequence[str]) -> str:
    """The key of the group that an alert with these properties belongs to."""
    return orjson.dumps({name: properties.get(name, "") for name in group_by}).decode()


def common(key: str) -> dict[str, str]:
    """What the alerts of the group with this key have in common."""
    found: dict[str, str] = orjson.loads(key)
    return found


Telling = list[int]
"""Transitions of an alert that are told as one, in their order: the last says how it is."""


@dataclass
class Member:
    """What an endpoint has been, and is still to be, told of an alert."""

    waiting: list[Telling] = field(default_factory=list)
    held: Telling = field(default_factory=list)
    """Transitions that are held back, to be told together if they ever are."""
    said: dict[int, str] = field(default_factory=dict)
    """By what a transition was held back, as far as that is on record: a decision is told once."""
    told: int = 0
    """The latest transition to firing that the endpoint was told of; 0: none."""
    told_at: Micros = 0

    @property
    def idle(self) -> bool:
        """Nothing is still to be told."""
        return not self.waiting and not self.held

    def row(self) -> list[Any]:
        """For the state."""
        return [self.waiting, self.held, list(self.said.items()), self.told, self.told_at]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Member":
        """The inverse of `row`."""
        waiting, held, said, told, told_at = row
        return cls(waiting, held, dict(said), told, told_at)


@dataclass
class Group:
    """Alerts that one endpoint is told of together."""

    id: GroupId
    members: dict[str, Member] = field(default_factory=dict)
    """By alert."""
    due: Micros | None = None
    """When what waits is told, and before when nothing is told; None: as soon as something comes."""
    heard_at: Micros = 0
    """When something came last."""
    remind_at: Micros | None = None
    """When those that still fire are told again."""

    def wait(self, now: Micros, group_wait: Micros) -> None:
        """Something has come."""
        self.heard_at = now
        if self.due is None:
            self.due = now + group_wait

    def row(self) -> list[Any]:
        """For the state."""
        members = [[alert_id, *member.row()] for alert_id, member in self.members.items()]
        return [*self.id, self.due, self.heard_at, self.remind_at, members]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> "Group":
        """The inverse of `row`."""
        endpoint_id, key, due, heard_at, remind_at, members = row
        return cls(
            (endpoint_id, key),
            {alert_id: Member.from_row(rest) for alert_id, *rest in members},
            due,
            heard_at,
            remind_at,
        )


@dataclass(frozen=True)
class Item:
    """An alert in a notification, and the transitions of it that are told."""

    alert_id: str
    transitions: tuple[int, ...]


def batches(items: Sequence[Item], more_is_coming: bool) -> Iterator[list[Item]]:
    """Notifications of at most MOST_TOGETHER alerts, each alert once in one of them.

    While more is coming and there is enough for one, the rest of a notification waits for company.
    """
    layers: list[list[Item]] = []
    seen: dict[str, int] = {}
    for item in items:
        layer = seen[item.alert_id] = seen.get(item.alert_id, -1) + 1
        if layer == len(layers):
            layers.append([])
        layers[layer].append(item)
    for layer_items in layers:
        left = len(layer_items) % MOST_TOGETHER
        end = len(layer_items)
        if more_is_coming and end > MOST_TOGETHER:
            end -= left
        for begin in range(0, end, MOST_TOGETHER):
            yield layer_items[begin : min(begin + MOST_TOGETHER, end)]
