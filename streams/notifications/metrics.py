"""What notifier and subscriptions tell Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge

NOTIFICATIONS: Final = Counter("chatgauge_notifier_notifications", "Notifications made.", ["type"])
DECISIONS: Final = Counter(
    "chatgauge_notifier_decisions",
    "Decisions about transitions of alerts, for an endpoint each: notified, silenced, ...",
    ["what"],
)
OPEN_ALERTS: Final = Gauge("chatgauge_notifier_open_alerts", "Alerts that fire, or are still to be told.")
GROUPS: Final = Gauge("chatgauge_notifier_groups", "Groups of alerts that an endpoint is told of together.")
FORGOTTEN_EARLY: Final = Gauge(
    "chatgauge_notifier_forgotten_early",
    "Alerts that are over and were forgotten before their time, because there were too many; repeats of "
    "theirs would be told.",
)
UNREADABLE: Final = Counter(
    "chatgauge_notifier_unreadable", "Records that could not be read, by topic.", ["topic"]
)
SUBSCRIBED: Final = Gauge("chatgauge_subscriptions_topics", "Topics that some endpoint subscribes to.")
SUBSCRIPTION_EVENTS: Final = Counter(
    "chatgauge_subscriptions_events", "Records held against subscriptions.", ["topic"]
)
SUBSCRIPTION_FAILURES: Final = Counter(
    "chatgauge_subscriptions_failures", "How often following the events was begun anew after a failure."
)
