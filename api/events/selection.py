"""Which events are asked for, pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from api.errors import BadParameterError
from api.live.state import Include
from schemas.time import Micros
from schemas.topics import REQUESTS, SAMPLES, SPANS, Topic
from streams.alerts.measures import SAMPLE_GROUPING
from streams.catalogue.groupings import GROUPINGS
from streams.notifications.transition import Transition

TABLES: Final = {REQUESTS.name: "events", SPANS.name: "spans", SAMPLES.name: "samples"}
"""The tables of raw events, by topic."""
_SAMPLE: Final = "sample:"


@dataclass(frozen=True)
class Place:
    """One record on Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class Selection:
    """The finished requests, or the samples, of [start, end) in which these columns have these values."""

    topic: Topic
    start: Micros
    end: Micros
    equal: Mapping[str, str] = field(default_factory=dict)
    include: Include = Include.ALL


def of_transition(alert: Transition) -> Selection:
    """What an alert's window was made of: live events of its group.

    Raises BadParameterError for a grouping that is not known (any more).
    """
    group = alert.group_by_name
    if alert.grouping == SAMPLE_GROUPING:
        name = alert.metric.removeprefix(_SAMPLE)
        # Such a window ends with a sample, which is part of it, and begins behind one.
        span = alert.window_start + 1, alert.window_end + 1
        return Selection(SAMPLES, *span, {**group, "name": name}, Include.LIVE)
    grouping = GROUPINGS.get(alert.grouping)
    if grouping is None or set(group) != set(grouping.keys):
        raise BadParameterError(
            f"This alert is of the group {', '.join(alert.group) or 'of all'} by {alert.grouping!r}, "
            "which no events can be told by: ask with from and to.",
            where="alert",
        )
    return Selection(REQUESTS, alert.window_start, alert.window_end, group, Include.LIVE)
