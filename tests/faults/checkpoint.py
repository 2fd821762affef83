"""A comparison of everything that the product has made so far with the recount."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import clickhouse_connect

from tests.faults.feed import Feed
from tests.faults.notifications import Notifications
from tests.faults.recount import compare_history, compare_published, recount, tally
from tests.faults.stack import Stack

_ATTEMPTS = 5
_PAUSE_S = 3.0


@dataclass(frozen=True)
class Checkpoint:
    """What a comparison came to."""

    after: int
    """Faults so far."""
    at: float
    """Seconds since the schedule began."""
    events: int = 0
    """Records on the topic."""
    repeats: int = 0
    """Of these, events that came again within the horizon."""
    refused: int = 0
    """Of these, what can't be read."""
    notifications: int = 0
    """That were sent."""
    lost: int = 0
    doubled: int = 0
    differences: list[str] = field(default_factory=list)

    @classmethod
    def failed(cls, after: int, why: str, at: float = 0.0) -> "Checkpoint":
        """Of a comparison that could not be made."""
        return cls(after, at, differences=[why])


def compare(stack: Stack, feed: Feed, notifications: Notifications, after: int, at: float) -> Checkpoint:
    """Everything must be settled.

    History that differs is looked at again: minutes that are being rebuilt are between two answers.
    """
    expected = recount(stack.kafka.bootstrap, feed.unreadable)
    read = sorted(feed.aborted & (expected.places.keys() | expected.refused.keys()))
    aborted = [f"{len(read)} records were aborted, and are read: {read[:5]}"] if read else []
    delivered = notifications.outcome(stack.processes["deliveries"].continued)
    published = compare_published(expected, stack.kafka.bootstrap)
    settings = stack.clickhouse.settings
    with clickhouse_connect.get_client(
        host=settings.host, port=settings.port, database=settings.database
    ) as client:

        def query(sql: str) -> Iterable[Sequence[Any]]:
            return client.query(sql).result_rows

        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            history = compare_history(expected, query)
            counts = tally(expected, query, feed.places)
            if not history and not counts.lost and not counts.doubled:
                break
    return Checkpoint(
        after,
        at,
        events=expected.records,
        repeats=len(expected.repeats),
        refused=len(expected.refused),
        notifications=len(notifications.acknowledged),
        lost=counts.lost + len(delivered.lost),
        doubled=counts.doubled + len(delivered.doubled),
        differences=[*aborted, *published, *history, *delivered.differences],
    )
