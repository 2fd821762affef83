"""What the delivery agent tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

NOTIFICATIONS: Final = Counter(
    "chatgauge_delivery_notifications",
    "Notifications read: opened, repeats (known already), parked, superseded (asked for anew), unreadable.",
    ["fate"],
)
ATTEMPTS: Final = Counter(
    "chatgauge_delivery_attempts", "Attempts, and decisions not to make one.", ["channel", "outcome"]
)
ATTEMPT_SECONDS: Final = Histogram(
    "chatgauge_delivery_attempt_seconds",
    "How long an attempt takes, from its beginning to the answer.",
    ["channel"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30, 60),
)
DELIVERED_AFTER: Final = Histogram(
    "chatgauge_delivery_delivered_after_seconds",
    "From a notification's making to its delivery, where the first attempt delivered it.",
    ["channel"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
RECORD_SECONDS: Final = Histogram(
    "chatgauge_delivery_record_seconds",
    "From an answer to its durable record: who is killed in between sends again.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
OPEN: Final = Gauge("chatgauge_delivery_open", "Deliveries that are not over.")
UNDER_WAY: Final = Gauge("chatgauge_delivery_under_way", "Attempts that are being made.")
CONCURRENCY_LIMIT: Final = Gauge(
    "chatgauge_delivery_pace",
    "How many attempts may be begun lately, or be answered and not recorded; less when it can't keep up.",
)
BACKLOG: Final = Gauge(
    "chatgauge_delivery_backlog", "Open deliveries of an endpoint that keeps failing.", ["endpoint"]
)
FAILING: Final = Gauge("chatgauge_delivery_failing_endpoints", "Endpoints whose last attempt has failed.")
DISABLED: Final = Counter("chatgauge_delivery_disabled", "Endpoints that the agent has disabled.")
REMEMBERED: Final = Gauge("chatgauge_delivery_remembered_ids", "Ids that are remembered, to tell repeats.")
FORGOTTEN_EARLY: Final = Gauge(
    "chatgauge_delivery_forgotten_early",
    "Ids that were forgotten before their time, because there were too many; repeats of theirs are sent.",
)
BODY_BYTES: Final = Gauge("chatgauge_delivery_body_bytes", "Memory that notifications at hand take.")
BODIES_READ: Final = Counter(
    "chatgauge_delivery_bodies_read", "Notifications that were read again from Kafka to be sent."
)
