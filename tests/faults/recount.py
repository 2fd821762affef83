"""Where a running product says otherwise than what must have come of everything on the topics."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.end_to_end.log import Log, Record
from tests.end_to_end.published import figures_of, key_of, records_of
from tests.end_to_end.recomputation import (
    DAY,
    HOUR,
    KEPT,
    KEYS,
    LATENCIES,
    LENGTH,
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
from tests.faults.expectation import FIELDS, Expected, Letter, recount

__all__ = [
    "Expected",
    "Tally",
    "compare_blocks",
    "compare_history",
    "compare_published",
    "not_rebuilt",
    "rebuilt",
    "recount",
    "tally",
]

Query = Callable[[str], Iterable[Sequence[Any]]]
"""Rows of ClickHouse, in its database."""

Published = tuple[Record, dict[str, Any] | None]
"""A record of chat.windows or chat.usage and its block; None for a tombstone."""

QUANTILES = (0.5, 0.95, 0.99)

_GAMMA = 1.01 / 0.99
_CLOCKS = 5 * MINUTE
_IMPORTED_KEPT = HOUR


def compare_published(expected: Expected, bootstrap: str) -> list[str]:
    """Where chat.windows and chat.usage differ: minutes and days, every figure and sketch.

    The newest block of each identity counts. Of a block that has been expired, compaction may have left
    nothing, so its figures aren't compared, but it must have been its time. The last record of each key
    is what compaction leaves: it must be the newest.
    """
    log = Log(bootstrap)
    return compare_blocks(
        expected,
        {topic: records_of(log, topic, "window_block") for topic in ("chat.windows", "chat.usage")},
    )


def compare_blocks(expected: Expected, topics: Mapping[str, Iterable[Published]]) -> list[str]:
    """The same, of the topics' records in the order of each partition."""
    said: list[str] = []
    found: dict[Group, Figures] = {}
    expired: set[tuple[str, int, str]] = set()
    for topic, records in topics.items():
        newest: dict[tuple[bytes, int], dict[str, Any]] = {}
        last: dict[bytes, Published] = {}
        for record, block in records:
            key = record.key or b""
            if block is None:
                said += _expired_too_early(topic, record, last.get(key))
                _, _, pane, start, grouping, _ = key.decode().split("|")
                expired.add((pane, int(start), grouping))
            else:
                if key != key_of(block):
                    said.append(f"{topic}: the block of {key_of(block)!r} has the key {key!r}")
                identity = (key, block["since"])
                if identity not in newest or _age(newest[identity]) <= _age(block):
                    newest[identity] = block
            last[key] = (record, block)
        for (key, _), block in newest.items():
            _, lying = last[key]
            if lying is not None and _age(lying) < _age(block):
                said.append(f"{topic}: the last block of {key!r} is at {_age(lying)}, not {_age(block)}")
        for group, figures in figures_of(one for one in newest.values() if one["pane"] != "1s").items():
            assert group not in found, "a grouping is on one of the topics"
            found[group] = figures
    for table in (found, wanted := dict(expected.streamed)):
        for group in [one for one in table if (one.pane, one.start, one.grouping) in expired]:
            del table[group]
    return said + _labelled("published", differences(wanted, found))


def _age(block: Mapping[str, Any]) -> tuple[int, int]:
    return block["offset"], block["revision"]


def _expired_too_early(topic: str, tombstone: Record, before: Published | None) -> list[str]:
    """A tombstone that came before its block's time; those of seconds have none."""
    key = (tombstone.key or b"").decode()
    _, origin, pane, start, _, _ = key.split("|")
    if pane == "1s":
        return []
    if origin == "live":
        due = int(start) + LENGTH[pane] + KEPT[pane] - _CLOCKS
    else:
        due = before[0].timestamp_ms * 1_000 + _IMPORTED_KEPT - SECOND if before else 0
    early = due - tombstone.timestamp_ms * 1_000
    return [f"{topic}: {key} was expired {early / SECOND:.0f} s too early"] if early > 0 else []


def compare_history(expected: Expected, query: Query) -> list[str]:
    """Where ClickHouse differs: raw events, windows (sketches by their quantiles), dead letters.

    Days must be the sums of their minutes, days of UTC.
    """
    wanted, found = _windows(expected, query)
    return [
        *_labelled("events", _raw_differences(expected, query)),
        *_labelled("windows", differences(wanted, found)),
        *_labelled("days", _day_differences(wanted, query)),
        *_labelled("dead letters", _letter_differences(expected, query)),
    ]


def _day_differences(minutes: Mapping[Group, Any], query: Query) -> list[str]:
    """Requests and errors by day, as the views give them that people read."""
    wanted: dict[tuple[str, int, str], list[int]] = {}
    for group, (sums, _) in minutes.items():
        if group.grouping in ("space", "user"):
            day = wanted.setdefault((group.grouping, group.start // DAY, *group.key), [0, 0])
            day[0] += sums[0]
            day[1] += sums[1]
    found: dict[tuple[str, int, str], list[int]] = {}
    for grouping in ("space", "user"):
        for day, key, requests, errors in query(
            f"SELECT toInt32(day), {grouping}_id, sum(requests), sum(errors) "
            f"FROM tokens_by_{grouping} GROUP BY ALL"
        ):
            found[grouping, day, key] = [requests, errors]
    return differences(wanted, found)


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


def _windows(expected: Expected, query: Query) -> tuple[dict[Group, Any], dict[Group, Any]]:
    """What must count in ClickHouse, and what does. Of rebuilt minutes that is each identity once."""
    from_raw = rebuilt(query)
    wanted = {
        group: _finalized(figures)
        for table, is_rebuilt in ((expected.streamed, False), (expected.once, True))
        for group, figures in table.items()
        if group.pane == "1m" and (group.start in from_raw) is is_rebuilt
    }
    sums = ", ".join(f"sum({name})" for name in SUMS)
    latencies = ", ".join(
        f"sum({name}_count), sum({name}_sum), min({name}_min), max({name}_max), "
        f"quantilesDDMerge(0.01, {', '.join(map(str, QUANTILES))})({name}_sketch)"
        for name in LATENCIES
    )
    rows = query(
        f"SELECT toUnixTimestamp(pane_start), grouping, key1, key2, {sums}, {latencies} "
        "FROM window_rows WHERE pane = '1m' GROUP BY pane_start, grouping, key1, key2"
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
    return wanted, found


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
        for table in _windows(expected, query)
    )
    result.hold(wanted, found)
    return result


def _labelled(where: str, said: list[str]) -> list[str]:
    return [f"{where}: {one}" for one in said]
