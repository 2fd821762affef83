"""Every topic of Chatgauge: its name, its record type, and how it is kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_LARGEST_BLOCK = 16 * 1024 * 1024


def _kept(ms: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(ms)}


def _compacted() -> dict[str, str]:
    # Small, soon-rolled segments: only rolled ones are compacted, and a restart reads what is left.
    return {
        "cleanup.policy": "compact",
        "max.message.bytes": str(_LARGEST_BLOCK),
        "min.cleanable.dirty.ratio": "0.2",
        # What a late writer has replaced must still be there when it is noticed: the lag counts from when
        # a record has landed, whatever its writer's clock said when it was paused.
        "min.compaction.lag.ms": str(5 * _MINUTE_MS),
        "message.timestamp.type": "LogAppendTime",
        "segment.bytes": str(64 * 1024 * 1024),
        "segment.ms": str(30 * _MINUTE_MS),
        "delete.retention.ms": str(30 * _MINUTE_MS),
    }


@dataclass(frozen=True)
class Topic:
    """One topic. `record` names the Avro record of its values (`schemas/*.avsc`)."""

    name: str
    record: str
    config: Mapping[str, str] = field(default_factory=dict)
    follows_source: bool = True
    """Has as many partitions as `chat.requests`; otherwise one."""


# Event topics are stamped by the broker: what a producer's clock says is the event's business
# (`occurred_at`), and retention, or the judgement «too far in the future», must not depend on it.
_ARRIVAL = {"message.timestamp.type": "LogAppendTime"}

REQUESTS = Topic("chat.requests", "RequestEvent", _kept(7 * _DAY_MS) | _ARRIVAL)
SPANS = Topic("chat.spans", "SpanEvent", _kept(7 * _DAY_MS) | _ARRIVAL)
SAMPLES = Topic("chat.samples", "Sample", _kept(7 * _DAY_MS) | _ARRIVAL)
WINDOWS = Topic("chat.windows", "WindowBlock", _compacted())
USAGE = Topic("chat.usage", "WindowBlock", _compacted())
CLOSED = Topic(
    "chat.closed", "ClosedPane", _kept(120 * _MINUTE_MS) | {"max.message.bytes": str(_LARGEST_BLOCK)}
)
ALERTS = Topic("chat.alerts", "Alert", _kept(30 * _DAY_MS), follows_source=False)
ALERT_STATE = Topic("chat.alert-state", "AgentState", _compacted())
SAMPLE_STATE = Topic("chat.sample-state", "AgentState", _compacted())
DECISIONS = Topic("chat.decisions", "Decision", _kept(7 * _DAY_MS))
NOTIFIER_STATE = Topic("chat.notifier-state", "AgentState", _compacted(), follows_source=False)
NOTIFICATIONS = Topic(
    "chat.notifications",
    "Notification",
    _kept(30 * _DAY_MS) | {"max.message.bytes": str(_LARGEST_BLOCK)},
)
OUTBOX = Topic("chat.outbox", "AgentState", _compacted())
DELIVERIES = Topic("chat.deliveries", "DeliveryAttempt", _kept(30 * _DAY_MS))
RULES = Topic("chat.rules", "Definition", _compacted(), follows_source=False)
ENDPOINTS = Topic("chat.endpoints", "Definition", _compacted(), follows_source=False)
SILENCES = Topic("chat.silences", "Definition", _compacted(), follows_source=False)
ACCESS = Topic("chat.access", "Definition", _compacted(), follows_source=False)
DEAD_LETTERS = Topic(
    "chat.dead-letters",
    "DeadLetter",
    _kept(30 * _DAY_MS) | {"max.message.bytes": str(_LARGEST_BLOCK)},
    follows_source=False,
)

TOPICS = (
    REQUESTS,
    SPANS,
    SAMPLES,
    WINDOWS,
    USAGE,
    CLOSED,
    ALERTS,
    ALERT_STATE,
    SAMPLE_STATE,
    DECISIONS,
    NOTIFIER_STATE,
    NOTIFICATIONS,
    OUTBOX,
    DELIVERIES,
    RULES,
    ENDPOINTS,
    SILENCES,
    ACCESS,
    DEAD_LETTERS,
)
