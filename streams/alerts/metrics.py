"""The metrics of the alerts worker."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

RULES: Final = Gauge("chatgauge_alert_rules", "Rules that are judged.")
RULE_PROBLEMS: Final = Gauge("chatgauge_alert_rule_problems", "What is wrong with the rules' files.")
UNREADABLE: Final = Counter("chatgauge_alert_unreadable", "Records that could not be read.", ["topic"])
TRANSITIONS: Final = Counter(
    "chatgauge_alert_transitions", "Transitions published, by their state.", ["state"]
)
DECISIONS: Final = Counter("chatgauge_alert_decisions", "Decisions published, by what was decided.", ["what"])
FORGOTTEN: Final = Gauge(
    "chatgauge_alert_forgotten",
    "Late shares, and groups too many, that were let go since the partitions were taken up.",
    ["agent"],
)
STEP_SECONDS: Final = Histogram(
    "chatgauge_alert_step_seconds",
    "From receiving closed panes to what they change being durable.",
    ["agent"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
HISTORY_WAITING: Final = Gauge(
    "chatgauge_alert_past_waiting",
    "Questions about history that ClickHouse has not answered yet.",
    ["agent"],
)
