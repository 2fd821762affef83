"""What each part is fed, and how it is seen that it works it off."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from schemas.topics import (
    ALERTS,
    CLOSED,
    DEAD_LETTERS,
    DECISIONS,
    DELIVERIES,
    NOTIFICATIONS,
    REQUESTS,
    SAMPLES,
    SPANS,
    USAGE,
    WINDOWS,
)
from streams.counting.announce import heartbeat
from streams.windows.block import write_block
from tests.sinks import making

Value = Callable[[int, int, int], bytes]
"""A record's value, by a number of its own, its partition, and how many partitions there are."""


def _now_us() -> int:
    return time.time_ns() // 1_000


def _request(number: int, _: int, __: int) -> bytes:
    return making.encoded(making.request(number, occurred_at=_now_us()))


def _closed(number: int, partition: int, partitions: int) -> bytes:
    return heartbeat(WINDOWS.name, partition, partitions, _now_us(), number)[1]


VALUES: Final[Mapping[str, Value]] = {
    REQUESTS.name: _request,
    SPANS.name: lambda number, *_: making.encoded(making.span(number), "SpanEvent"),
    SAMPLES.name: lambda number, *_: making.encoded(making.sample(number), "Sample"),
    WINDOWS.name: lambda *_: write_block(making.block(grouping="service")),
    USAGE.name: lambda *_: write_block(making.block(grouping="user")),
    CLOSED.name: _closed,
    ALERTS.name: lambda number, *_: making.encoded(making.alert(number), "Alert"),
    DECISIONS.name: lambda number, *_: making.encoded(making.decision(number), "Decision"),
    NOTIFICATIONS.name: lambda number, *_: making.encoded(making.notification(number), "Notification"),
    DELIVERIES.name: lambda number, *_: making.encoded(making.attempt(number), "DeliveryAttempt"),
    DEAD_LETTERS.name: lambda *_: b"no dead letter",
}
_SUNK: Final = (
    *(REQUESTS, SPANS, SAMPLES, WINDOWS, USAGE),
    *(ALERTS, DECISIONS, NOTIFICATIONS, DELIVERIES),
)
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "rollup": ("worker", "rollup"),
    "usage": ("worker", "usage"),
    "alerts": ("worker", "alerts"),
    "deliveries": ("worker", "deliveries"),
    "sink": ("sink",),
    "api": ("api",),
}
"""The parts, and the commands that run them."""
GROUPS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "rollup": (("chatgauge-rollup", REQUESTS.name),),
    "usage": (("chatgauge-usage", REQUESTS.name),),
    "alerts": (("chatgauge-alerts", CLOSED.name), ("chatgauge-samples", SAMPLES.name)),
    "deliveries": (("chatgauge-notifier", ALERTS.name), ("chatgauge-deliveries", NOTIFICATIONS.name)),
    "sink": tuple((f"chatgauge-sink-{topic.name}", topic.name) for topic in _SUNK),
    "api": (),
}
"""The consumer groups of each part, and what they read."""
FOLLOWED: Final = (WINDOWS.name, USAGE.name, ALERTS.name)
"""What the API reads without a group."""
