"""The same figures, computed once more: from the topic, record by record, in plain Python.

Nothing of the product's own arithmetic is used, but for the schema: fastavro decodes, and the rules are
written down here as the documentation has them.

- A value that can't be read is refused with a reason, and counts nowhere.
- Finished requests count, in the panes that hold their event time; a request without one of a grouping's
  keys is in no group of it.
- A live request is too late for a pane that ended, and was kept, before the watermark: the greatest
  event time of the partition's live requests so far, itself included, less ten seconds.
- Imported requests are never too late, and move no watermark.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from tests.end_to_end.log import Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6
"""In microseconds, as all times here are."""
LATENESS = 10 * SECOND
LENGTH = {"1s": SECOND, "1m": MINUTE, "1d": DAY}
KEPT = {"1m": 26 * HOUR, "1d": 3 * DAY}
"""How long a pane takes late requests after its end."""
MOST_AHEAD = 5 * MINUTE
"""By how much a request may have happened after it arrived: clocks differ."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "total": (),
    "service": ("service",),
    "model": ("provider", "model"),
    "space": ("space_id",),
    "workflow": ("workflow", "workflow_version"),
    "error": ("error_type",),
    "user": ("user_id",),
}
COUNTED = [("1m", grouping) for grouping in KEYS] + [("1d", "space"), ("1d", "user")]
"""Panes and groupings. Those of one second are for live figures: the clock has a say in them."""
SUMS = (
    "requests",
    "errors",
    "cache_hits",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_nano_usd",
    "unpriced",
)
LATENCIES = ("total_us", "context_us", "model_us", "first_token_us")

_LONGEST = 1_000
_HEADER = 10
"""Bytes of a single-object header: C3 01 and the schema's fingerprint."""
_DEFINITION = json.loads(
    (Path(__file__).parents[2] / "schemas" / "request_event.avsc").read_text(encoding="utf-8")
)
_SCHEMA = fastavro.parse_schema(_DEFINITION)
_FINGERPRINT = bytes.fromhex(
    fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(_DEFINITION), "CRC-64-AVRO")
)

Place = tuple[int, int]
"""Partition and offset."""


class Group(NamedTuple):
    """Whose figures, in which pane."""

    pane: str
    start: int
    grouping: str
    key: tuple[str, ...]


@dataclass
class Latency:
    """A duration's figures, in microseconds, and its sketch: values per bucket."""

    count: int = 0
    sum: int = 0
    min: int | None = None
    max: int | None = None
    sketch: dict[int, int] = field(default_factory=dict)

    def add(self, value: int) -> None:
        self.count += 1
        self.sum += value
        self.min = value if self.min is None else min(self.min, value)
        self.max = value if self.max is None else max(self.max, value)
        bucket = bucket_of(value)
        self.sketch[bucket] = self.sketch.get(bucket, 0) + 1


@dataclass
class Figures:
    """What is known of a group: `SUMS` in their order, and the latencies that any request reported."""

    sums: list[int] = field(default_factory=lambda: [0] * len(SUMS))
    latencies: dict[str, Latency] = field(default_factory=dict)


@dataclass
class Recomputation:
    """What the topic's records come to."""

    figures: dict[Group, Figures] = field(default_factory=dict)
    seconds: dict[int, int] = field(default_factory=dict)
    """Live requests by the second in which they occurred, however late."""
    requests: dict[Place, dict[str, Any]] = field(default_factory=dict)
    """Every event that can be read, the starts of requests too."""
    refused: dict[Place, str] = field(default_factory=dict)
    """Why the others can't."""
    too_late: set[Place] = field(default_factory=set)
    """Requests that came after their minute's time."""


def recompute(records: Iterable[Record], price_of: Mapping[Place, int | None]) -> Recomputation:
    """The figures of `chat.requests`; its records in the order of each partition.

    `price_of` says what each finished request cost, in nano-USD; None: not known.
    """
    result = Recomputation()
    latest: dict[int, int] = {}
    for record in records:
        place = (record.partition, record.offset)
        event = read(record)
        if isinstance(event, str):
            result.refused[place] = event
            continue
        result.requests[place] = event
        if event["phase"] != "finished":
            continue
        occurred_at = micros(event["occurred_at"])
        watermark = None
        if not event["imported"]:
            latest[record.partition] = max(latest.get(record.partition, 0), occurred_at)
            watermark = latest[record.partition] - LATENESS
            second = occurred_at - occurred_at % SECOND
            result.seconds[second] = result.seconds.get(second, 0) + 1
        sums = _sums(event, price_of[place])
        latencies = [(name, event[name]) for name in LATENCIES if event[name] is not None]
        for pane, grouping in COUNTED:
            start = occurred_at - occurred_at % LENGTH[pane]
            if watermark is not None and start + LENGTH[pane] + KEPT[pane] <= watermark:
                if pane == "1m":
                    result.too_late.add(place)
                continue
            key = tuple(event[name] for name in KEYS[grouping])
            if None in key:
                continue
            figures = result.figures.setdefault(Group(pane, start, grouping, key), Figures())
            figures.sums = [have + more for have, more in zip(figures.sums, sums, strict=True)]
            for name, value in latencies if grouping != "user" else ():
                figures.latencies.setdefault(name, Latency()).add(value)
    return result


def read(record: Record) -> dict[str, Any] | str:
    """The event, or why it can't be read."""
    value = record.value
    if not value:
        return "empty"
    if not value.startswith(b"\xc3\x01"):
        return "unknown_format"
    if value[2:_HEADER] != _FINGERPRINT:
        return "unknown_schema"
    body = BytesIO(value[_HEADER:])
    try:
        event = fastavro.schemaless_reader(body, _SCHEMA)
    except (EOFError, ValueError, IndexError, OverflowError, StopIteration):
        return "malformed"
    if body.read(1):
        return "left_over_bytes"
    assert isinstance(event, dict)
    if micros(event["occurred_at"]) > record.timestamp_ms * 1000 + MOST_AHEAD:
        return "in_the_future"
    return event


def micros(moment: datetime) -> int:
    """As microseconds since 1970, without a detour through floating point."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def _sums(event: Mapping[str, Any], price: int | None) -> list[int]:
    return [
        1,
        event["error_type"] is not None,
        event["cache_hit"],
        event["prompt_tokens"] or 0,
        event["cached_tokens"] or 0,
        event["completion_tokens"] or 0,
        event["reasoning_tokens"] or 0,
        price or 0,
        price is None,
    ]


def _bounds() -> list[int]:
    """The least whole number of each bucket: γ^k, rounded up, with γ = 1.01 / 0.99."""
    bounds, power = [], Fraction(1)
    while power < 2**45:
        bounds.append(-(-power.numerator // power.denominator))
        power *= Fraction(101, 99)
    return bounds


_BOUNDS = _bounds()


@cache
def bucket_of(value: int) -> int:
    """The sketch's bucket of a duration: the k with γ^k <= value < γ^(k+1)."""
    return bisect_right(_BOUNDS, max(value, 1)) - 1


def exact_quantile(values: Iterable[int], q: float) -> int:
    """The value at place floor(q · (n − 1)) of the n values in order: numpy.quantile's method «lower»."""
    ordered = sorted(values)
    return ordered[int(q * (len(ordered) - 1))]


def assert_same(expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> None:
    """Two tables are the same; if not, say where they differ."""
    said = differences(expected, found)
    assert not said, "\n".join(said)


def differences(expected: Mapping[Any, Any], found: Mapping[Any, Any], most: int = 5) -> list[str]:
    """In words, where two tables differ: none, if they are the same."""
    missing = [f"missing: {key}: {expected[key]}" for key in expected.keys() - found.keys()]
    surplus = [f"surplus: {key}: {found[key]}" for key in found.keys() - expected.keys()]
    other = [
        f"{key}: expected {expected[key]}, found {found[key]}"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    said = [line[:_LONGEST] for lines in (missing, surplus, other) for line in sorted(lines)[:most]]
    if said:
        said.insert(0, f"{len(missing)} missing, {len(surplus)} surplus, {len(other)} different")
    return said
