"""Where ClickHouse says otherwise than what must have come of chat.requests; what is lost, what doubled."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.recomputation import (
    DAY,
    KEYS,
    LATENCIES,
    MINUTE,
    SECOND,
    SUMS,
    Figures,
    Group,
    Identity,
    Latency,
    Place,
    differences,
)
from tests.faults.expectation import FIELDS, Expected, Letter, labelled

Query = Callable[[str], Iterable[Sequence[Any]]]
"""Rows of ClickHouse, in its database."""

QUANTILES = (0.5, 0.95, 0.99)
SETTLED_AFTER = 10 * MINUTE
"""So long after its end a minute is rebuilt at the earliest."""
PATIENCE = 5 * MINUTE
"""For a rebuild that could begin."""

_BY_DAY = ("space", "user")
_GAMMA = 1.01 / 0.99


def compare_history(expected: Expected, query: Query, now: int | None = None) -> list[str]:
    """Where ClickHouse differs: raw events, windows (sketches by their quantiles), days, dead letters.

    A minute that was rebuilt, and of which more has come since, is in between: it isn't compared, and
    `not_rebuilt` has it. `now` (the clock, if not given) says which of those should have been rebuilt.
    """
    look = _look(expected, query)
    wanted, found = look.differing(expected)
    late = _overdue(expected, query, time.time_ns() // 1_000 if now is None else now)
    return [
        *labelled("events", _raw_differences(expected, query)),
        *labelled("windows", differences(wanted, found)),
        *labelled("days", look.day_differences(wanted)),
        *labelled("rebuilding", [f"{len(late)} minutes are overdue: {sorted(late)[:5]}"] if late else []),
        *labelled("dead letters", _letter_differences(expected, query)),
    ]


def _raw_differences(expected: Expected, query: Query) -> list[str]:
    columns = ", ".join(FIELDS)
    rows = query(
        f"SELECT event_id, toUnixTimestamp64Micro(occurred_at), {columns}, priced_nano_usd FROM events FINAL"
    )
    found: dict[Identity, tuple[Any, ...]] = {}
    twice: list[str] = []
    for event_id, occurred_at, *values in rows:
        if (event_id, occurred_at) in found:
            twice.append(f"twice: {event_id} of {occurred_at}")
        found[event_id, occurred_at] = tuple(values)
    return twice[:5] + differences(expected.events, found)


def _letter_differences(expected: Expected, query: Query) -> list[str]:
    rows = query(
        "SELECT partition, offset, reason, lower(hex(SHA256(ifNull(key, '')))), "
        "lower(hex(SHA256(ifNull(value, '')))) FROM dead_letters FINAL WHERE topic = 'chat.requests'"
    )
    found: dict[Place, Letter] = {}
    twice: list[str] = []
    for partition, offset, *letter in rows:
        if (partition, offset) in found:
            twice.append(f"twice: {partition}@{offset}")
        found[partition, offset] = Letter(*letter)
    return twice[:5] + differences(expected.refused, found)


def rebuilt(query: Query) -> dict[int, int]:
    """The minutes that were rebuilt from raw history, and of how many records."""
    rows = query("SELECT toUnixTimestamp(minute), records FROM rebuilt_minutes FINAL")
    return {minute * SECOND: records for minute, records in rows}


def not_rebuilt(expected: Expected, query: Query, before: int | None = None) -> set[int]:
    """Minutes (that start before `before`) whose figures aren't those of all that has come.

    The marked ones that were never rebuilt, and those of which more has come since.
    """
    from_raw = rebuilt(query)
    waiting = {minute for minute in expected.marked if minute not in from_raw}
    waiting |= {minute for minute, records in from_raw.items() if expected.arrived[minute] != records}
    return {minute for minute in waiting if before is None or minute < before}


def _overdue(expected: Expected, query: Query, now: int) -> set[int]:
    """Minutes that could have been rebuilt long ago."""
    return {
        minute
        for minute in not_rebuilt(expected, query)
        if max(minute + MINUTE + SETTLED_AFTER, expected.last_arrival.get(minute, 0)) + PATIENCE < now
    }


@dataclass(frozen=True)
class _Look:
    """What ClickHouse gives as its windows at one time."""

    rebuilt: frozenset[int]
    between: frozenset[int]
    """Minutes rebuilt of other records than those that have come."""
    minutes: dict[Group, Any]
    days: dict[tuple[str, int, str], tuple[int, int]]

    def differing(self, expected: Expected) -> tuple[dict[Group, Any], dict[Group, Any]]:
        """What must count and what does. Of a rebuilt minute that is each identity once."""
        wanted = {
            group: _finalized(figures)
            for table, is_rebuilt in ((expected.streamed, False), (expected.once, True))
            for group, figures in table.items()
            if group.pane == "1m"
            and group.start not in self.between
            and (group.start in self.rebuilt) is is_rebuilt
        }
        found = {group: figures for group, figures in self.minutes.items() if group.start not in self.between}
        return wanted, found

    def day_differences(self, minutes: Mapping[Group, Any]) -> list[str]:
        """Of requests and errors: days must be the sums of their minutes."""
        wanted: dict[tuple[str, int, str], tuple[int, int]] = {}
        for group, (sums, _) in minutes.items():
            if group.grouping in _BY_DAY:
                day = (group.grouping, group.start // DAY, group.key[0])
                had = wanted.get(day, (0, 0))
                wanted[day] = (had[0] + sums[0], had[1] + sums[1])
        open_days = {minute // DAY for minute in self.between}
        return differences(
            {day: sums for day, sums in wanted.items() if day[1] not in open_days},
            {day: sums for day, sums in self.days.items() if day[1] not in open_days},
        )


def _look(expected: Expected, query: Query) -> _Look:
    """Look until no minute is switched over meanwhile."""
    while True:
        before = rebuilt(query)
        between = frozenset(one for one, records in before.items() if expected.arrived[one] != records)
        look = _Look(frozenset(before), between, _minutes(query), _days(query))
        if rebuilt(query) == before:
            return look


def _days(query: Query) -> dict[tuple[str, int, str], tuple[int, int]]:
    return {
        (grouping, day, key): (requests, errors)
        for grouping in _BY_DAY
        for day, key, requests, errors in query(
            f"SELECT toInt32(day), {grouping}_id, sum(requests), sum(errors) "
            f"FROM tokens_by_{grouping} GROUP BY ALL"
        )
    }


def _minutes(query: Query) -> dict[Group, Any]:
    sums = ", ".join(f"sum({name})" for name in SUMS)
    latencies = ", ".join(
        f"sum({name}_count), sum({name}_sum), min({name}_min), max({name}_max), "
        f"quantilesDDMerge(0.01, {', '.join(map(str, QUANTILES))})({name}_sketch)"
        for name in LATENCIES
    )
    # One grouping after the other: all sketches at once are more than a small ClickHouse may hold.
    rows = (
        row
        for grouping in KEYS
        for row in query(
            f"SELECT toUnixTimestamp(pane_start), grouping, key1, key2, {sums}, {latencies} FROM window_rows "
            f"WHERE pane = '1m' AND grouping = '{grouping}' GROUP BY pane_start, grouping, key1, key2"
        )
    )
    found: dict[Group, Any] = {}
    for start, grouping, key1, key2, *figures in rows:
        group = Group("1m", start * SECOND, grouping, (key1, key2)[: len(KEYS[grouping])])
        fives = [figures[at : at + 5] for at in range(len(SUMS), len(figures), 5)]
        found[group] = (
            tuple(figures[: len(SUMS)]),
            {
                name: (count, total, least, most, tuple(f"{value:.9g}" for value in quantiles))
                for name, (count, total, least, most, quantiles) in zip(LATENCIES, fives, strict=True)
                if count
            },
        )
    return found


def _finalized(figures: Figures) -> tuple[Any, ...]:
    """Sums and latencies, with quantiles for the sketch."""
    return tuple(map(int, figures.sums)), {
        name: (had.count, had.sum, had.min, had.max, tuple(f"{quantile(had, q):.9g}" for q in QUANTILES))
        for name, had in figures.latencies.items()
    }


def quantile(latency: Latency, q: float) -> float:
    """By the sketch: of the value at place floor(q · (n − 1)), its bucket's middle."""
    rank, passed = math.floor(q * (latency.count - 1)), 0
    for bucket, count in sorted(latency.sketch.items()):
        passed += count
        if passed > rank:
            return 2 * _GAMMA / (1 + _GAMMA) * _GAMMA**bucket
    return math.nan


@dataclass
class Tally:
    """By how much the product is off, in events and records."""

    lost: int = 0
    doubled: int = 0

    def hold(self, expected: Mapping[Any, int], found: Mapping[Any, int]) -> None:
        """Count what is missing, and what is more than expected."""
        for key in expected.keys() | found.keys():
            off = found.get(key, 0) - expected.get(key, 0)
            self.lost += max(-off, 0)
            self.doubled += max(off, 0)


def tally(expected: Expected, query: Query, acknowledged: Mapping[Place, str] | None = None) -> Tally:
    """How many were lost, and how many counted more than once.

    Lost are: acknowledged sends (their event ids by place) that aren't on the topic; identities that aren't
    in raw history; refused records without a dead letter; requests missing in minutes. Doubled are rows and
    requests beyond those expected.
    """
    result = Tally()
    for place, event_id in (acknowledged or {}).items():
        there = expected.places.get(place)
        result.lost += place not in expected.refused and (there is None or there[0] != event_id)
    events = query("SELECT event_id, toUnixTimestamp64Micro(occurred_at) FROM events FINAL")
    result.hold(dict.fromkeys(expected.events, 1), Counter((one[0], one[1]) for one in events))
    letters = query("SELECT partition, offset FROM dead_letters FINAL WHERE topic = 'chat.requests'")
    result.hold(dict.fromkeys(expected.refused, 1), Counter((one[0], one[1]) for one in letters))
    wanted, found = (
        {group: figures[0][0] for group, figures in table.items() if (group.pane, group.key) == ("1m", ())}
        for table in _look(expected, query).differing(expected)
    )
    result.hold(wanted, found)
    return result
