"""What must have come of everything on chat.requests.

Computed from the topic alone, record by record, in plain Python (`tests.end_to_end.recomputation`), twice:
as the streams count, and once for each identity, as history and minutes that were rebuilt from it do.
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.end_to_end.log import Log, Record
from tests.end_to_end.recomputation import (
    MINUTE,
    Counting,
    Figures,
    Group,
    Identity,
    Place,
    add,
    micros,
    read,
)
from tests.faults.prices import price_of

FIELDS = ("phase", "user_id", "service", "prompt_tokens", "completion_tokens", "total_us")
"""Of an event, beside its price: enough to tell that it is the one that was sent."""
LATE = 5 * MINUTE
"""After its time: a minute that something reaches so late is rebuilt."""


class Letter(NamedTuple):
    """A record that can't be read: why, and the SHA-256 of its key and value, in hex."""

    reason: str
    key: str
    value: str


UNREADABLE = Letter("unreadable_batch", *(hashlib.sha256().hexdigest(),) * 2)
"""Of a whole batch: it has neither key nor value."""


@dataclass
class Expected:
    """What the records of chat.requests come to."""

    streamed: dict[Group, Figures] = field(default_factory=dict)
    """As the workers count: without what came too late, or again within the horizon."""
    once: dict[Group, Figures] = field(default_factory=dict)
    """Each identity once, however late, and wherever it came again."""
    events: dict[Identity, tuple[Any, ...]] = field(default_factory=dict)
    """Every event that can be read, starts of requests too: its `FIELDS` and its price."""
    places: dict[Place, Identity] = field(default_factory=dict)
    """Where they lie."""
    refused: dict[Place, Letter] = field(default_factory=dict)
    too_late: set[Place] = field(default_factory=set)
    repeats: set[Place] = field(default_factory=set)
    """Those within the horizon, which the windows don't count."""
    marked: set[int] = field(default_factory=set)
    """Minutes that the streams may not have right: with imported events, or some that came `LATE`."""
    arrived: Counter[int] = field(default_factory=Counter)
    """Records of finished requests by minute, repeats included."""
    last_arrival: dict[int, int] = field(default_factory=dict)
    """When the last of them came, by minute."""

    @property
    def records(self) -> int:
        """How many are on the topic."""
        return len(self.places) + len(self.refused)


class Recount:
    """Takes the records of chat.requests, in the order of each partition."""

    def __init__(self) -> None:
        self.expected = Expected()
        self._counting = Counting()
        self._finished: set[Identity] = set()

    def take(self, record: Record) -> None:
        """The next one."""
        expected = self.expected
        place = (record.partition, record.offset)
        event = read(record)
        if isinstance(event, str):
            expected.refused[place] = Letter(event, _digest(record.key), _digest(record.value))
            return
        occurred_at = micros(event["occurred_at"])
        identity = (event["event_id"], occurred_at)
        is_finished = event["phase"] == "finished"
        price = price_of(event) if is_finished else None
        expected.places[place] = identity
        if identity not in expected.events:
            expected.events[identity] = (*(event[name] for name in FIELDS), price)
        if not is_finished:
            return
        minute = occurred_at - occurred_at % MINUTE
        arrived_at = record.timestamp_ms * 1_000
        expected.arrived[minute] += 1
        expected.last_arrival[minute] = max(arrived_at, expected.last_arrival.get(minute, 0))
        if event["imported"] or arrived_at - occurred_at >= LATE:
            expected.marked.add(minute)
        if identity not in self._finished:
            self._finished.add(identity)
            add(expected.once, event, price)
        verdict = self._counting.count(record, event, price)
        if verdict == "repeat":
            expected.repeats.add(place)
        elif verdict == "too_late":
            expected.too_late.add(place)
        expected.streamed = self._counting.figures


def recount(bootstrap: str, unreadable: Collection[Place] = ()) -> Expected:
    """From chat.requests as it lies there now. The batches that begin at the places `unreadable` are not
    looked into: each is one dead letter."""
    recounting = Recount()
    Log(bootstrap).read("chat.requests", recounting.take, unreadable)
    recounting.expected.refused |= dict.fromkeys(unreadable, UNREADABLE)
    return recounting.expected


def labelled(where: str, said: list[str]) -> list[str]:
    """Each line with where it is about."""
    return [f"{where}: {one}" for one in said]


def _digest(value: bytes | None) -> str:
    return hashlib.sha256(value or b"").hexdigest()
