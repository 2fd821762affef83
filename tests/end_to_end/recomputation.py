"""The same figures, computed once more: from the topic, record by record, in plain Python.

Nothing of the product's own arithmetic is used, but for the schema: fastavro decodes, and the rules are
written down here as the documentation has them.

- A value that can't be read is refused with a reason, and counts nowhere.
- Finished requests count, in the panes that hold their event time; a request without one of a grouping's
  keys is in no group of it.
- A live request is too late for a pane that ended, and was kept, before the watermark: the greatest
  event time of the partition's live requests so far, itself included, less ten seconds.
- Imported requests are never too late, and move no watermark.
- A live request is a repeat, and doesn't count, if the same record (`event_id` and `occurred_at`) came
  before it in its partition, and its minute is at most five before that of the latest instant known: the
  greatest, over the partition's live requests before it, of when each occurred, or arrived if that was
  earlier.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from tests.end_to_end.log import Record

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6
"""In microseconds, as all times here are."""
LATENESS = 10 * SECOND
LENGTH = {"1s": SECOND, "1m": MINUTE, "5m": 5 * MINUTE, "1d": DAY}
KEPT = {"1m": 26 * HOUR, "5m": 26 * HOUR, "1d": 3 * DAY}
"""How long a pane takes late requests after its end."""
MOST_AHEAD = 5 * MINUTE
"""By how much a request may have happened after it arrived: clocks differ."""
HORIZON = 5
"""How many minutes before the latest repeats are known."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "total": (),
    "service": ("service",),
    "model": ("provider", "model"),
    "space": ("space_id",),
    "workflow": ("workflow", "workflow_version"),
    "region": ("region",),
    "error": ("error_type",),
    "user": ("user_id",),
}
COUNTED = [
    *(("1m", grouping) for grouping in KEYS),
    *(("5m", grouping) for grouping in ("total", "service", "model")),
    ("1d", "space"),
]
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

_TEXTS = [one["name"] for one in _DEFINITION["fields"] if one["type"] in ("string", ["null", "string"])]
_MOST = {
    one["name"]: limit
    for one in _DEFINITION["fields"]
    for ending, limit in (("_tokens", 10**12), ("_us", 30 * DAY), ("_nano_usd", 10**15))
    if one["name"].endswith(ending)
}
"""The greatest figure of each that an event may give."""

Place = tuple[int, int]
"""Partition and offset."""
Identity = tuple[str, int]
"""An event's id, and when it occurred: a record that is sent again has the same."""


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

    def add(self, value: int, bucket: int) -> None:
        self.count += 1
        self.sum += value
        if self.min is None or value < self.min:
            self.min = value
        if self.max is None or value > self.max:
            self.max = value
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
    repeats: set[Place] = field(default_factory=set)
    """Requests that were known already."""
    prices: Mapping[Place, int | None] = field(default_factory=dict)
    """What each finished request cost, in nano-USD; None: not known."""


class Repeats:
    """Which live requests are known. It forgets nothing: the horizon alone decides."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}
        self._known: dict[int, set[Identity]] = {}

    def knows(self, partition: int, identity: Identity, arrived_at: int) -> bool:
        """Whether the partition's next live request is a repeat; it is known from now on."""
        _, occurred_at = identity
        known = self._known.setdefault(partition, set())
        latest = self._latest.get(partition, 0)
        repeated = identity in known and occurred_at // MINUTE >= latest // MINUTE - HORIZON
        known.add(identity)
        self._latest[partition] = max(latest, min(occurred_at, arrived_at))
        return repeated


def recompute(records: Iterable[Record], price_of: Mapping[Place, int | None]) -> Recomputation:
    """The figures of `chat.requests`; its records in the order of each partition.

    `price_of` says what each finished request cost, in nano-USD; None: not known.
    """
    counting = Counting()
    result = Recomputation(prices=price_of)
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
        if not event["imported"]:
            second = occurred_at - occurred_at % SECOND
            result.seconds[second] = result.seconds.get(second, 0) + 1
        verdict = counting.count(record, event, price_of[place])
        if verdict == "too_late":
            result.too_late.add(place)
        elif verdict == "repeat":
            result.repeats.add(place)
    result.figures = counting.figures
    return result


def history(expected: Recomputation) -> dict[Group, Figures]:
    """The figures once they are rebuilt: every finished request once, however late it came."""
    seen: set[Identity] = set()
    figures: dict[Group, Figures] = {}
    for place, event in expected.requests.items():
        identity = (event["event_id"], micros(event["occurred_at"]))
        if event["phase"] == "finished" and identity not in seen:
            seen.add(identity)
            add(figures, event, expected.prices[place])
    return figures


class Counting:
    """Counts finished requests one by one, as the windows do."""

    def __init__(self) -> None:
        self.figures: dict[Group, Figures] = {}
        self._latest: dict[int, int] = {}
        self._repeats = Repeats()

    def count(self, record: Record, event: Mapping[str, Any], price: int | None) -> str:
        """Count one; `counted`, or why not (in its minute): `repeat` or `too_late`."""
        occurred_at = micros(event["occurred_at"])
        if event["imported"]:
            add(self.figures, event, price)
            return "counted"
        latest = max(self._latest.get(record.partition, 0), occurred_at)
        self._latest[record.partition] = latest
        identity = (event["event_id"], occurred_at)
        if self._repeats.knows(record.partition, identity, record.timestamp_ms * 1_000):
            return "repeat"

        def in_time(pane: str, start: int) -> bool:
            return start + LENGTH[pane] + KEPT[pane] > latest - LATENESS

        add(self.figures, event, price, in_time)
        return "counted" if in_time("1m", occurred_at - occurred_at % MINUTE) else "too_late"


def add(
    table: dict[Group, Figures],
    event: Mapping[str, Any],
    price: int | None,
    taken: Callable[[str, int], bool] = lambda pane, start: True,
) -> None:
    """Count a finished request in every group that it belongs to, of the panes that are `taken`."""
    occurred_at = micros(event["occurred_at"])
    sums = [(place, more) for place, more in enumerate(_sums(event, price)) if more]
    latencies = [(name, event[name], bucket_of(event[name])) for name in LATENCIES if event[name] is not None]
    starts = {pane: occurred_at - occurred_at % LENGTH[pane] for pane in KEPT}
    panes = {pane: start for pane, start in starts.items() if taken(pane, start)}
    for pane, grouping in COUNTED:
        key = tuple([event[name] for name in KEYS[grouping]])
        if pane not in panes or None in key:
            continue
        group = Group(pane, panes[pane], grouping, key)
        figures = table.get(group)
        if figures is None:
            figures = table[group] = Figures()
        for place, more in sums:
            figures.sums[place] += more
        if grouping == "user":
            continue
        for name, value, bucket in latencies:
            latency = figures.latencies.get(name)
            if latency is None:
                latency = figures.latencies[name] = Latency()
            latency.add(value, bucket)


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
    return "invalid" if is_impossible(event) else event


def is_impossible(event: Mapping[str, Any]) -> bool:
    """Whether it says what can't be: documented in docs/events.md, «What is refused»."""
    texts = [event[name] for name in _TEXTS if event[name] is not None]
    parts = (("cached_tokens", "prompt_tokens"), ("reasoning_tokens", "completion_tokens"))
    return (
        event["occurred_at"] < EPOCH
        or any(not 1 <= len(text) <= 256 for text in texts)
        or any(not 0 <= (event[name] or 0) <= most for name, most in _MOST.items())
        or any(
            event[part] is not None and event[whole] is not None and event[part] > event[whole]
            for part, whole in parts
        )
        or len(event["attributes"]) > 16
        or any(not _is_attribute(one) for one in event["attributes"])
    )


def _is_attribute(text: str) -> bool:
    key, equals, value = text.partition("=")
    return equals == "=" and 1 <= len(key) <= 64 and len(value) <= 256


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


@lru_cache(maxsize=200_000)
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
