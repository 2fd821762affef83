"""What the sinks report to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class SinkMetrics:
    """Every metric of the sinks. `topic` is the topic read, `partition` one of its partitions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "chatgauge_sink_rows", "Rows written to ClickHouse.", ["topic", "table"], registry=registry
        )
        self.insert_seconds = Histogram(
            "chatgauge_sink_insert_seconds",
            "Duration of a successful insert.",
            ["table"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.records = Counter(
            "chatgauge_sink_records", "Records read from Kafka.", ["topic"], registry=registry
        )
        self.lag = Gauge(
            "chatgauge_sink_lag_records",
            "Records between the end of the partition and what is safely written.",
            ["topic", "partition"],
            registry=registry,
        )
        self.last_progress = Gauge(
            "chatgauge_sink_last_progress_timestamp_seconds",
            "When a step of the topic last ended well.",
            ["topic"],
            registry=registry,
        )
        self.retries = Counter(
            "chatgauge_sink_retries",
            "Failed requests to ClickHouse, which are repeated, by its error code (0: no answer).",
            ["code"],
            registry=registry,
        )
        self.clickhouse_up = Gauge(
            "chatgauge_sink_clickhouse_up", "1 when ClickHouse answered the last request.", registry=registry
        )
        self.dead_letters = Counter(
            "chatgauge_sink_dead_letters",
            "Records refused and sent to chat.dead-letters.",
            ["topic", "reason"],
            registry=registry,
        )
        self.halted = Gauge(
            "chatgauge_sink_halted",
            "1 when a partition is not read on because most of its records are refused: a person has to act.",
            ["topic", "partition"],
            registry=registry,
        )
        self.letter_retries = Counter(
            "chatgauge_sink_dead_letter_retries",
            "Failed attempts to send to chat.dead-letters, which are repeated.",
            registry=registry,
        )
        self.unreadable = Counter(
            "chatgauge_sink_unreadable",
            "Records of Chatgauge's own topics that could not be read, and were left where they are.",
            ["topic", "reason"],
            registry=registry,
        )
        self.blocks_folded = Counter(
            "chatgauge_sink_blocks_folded",
            "Window blocks not written because a newer one of the same key was.",
            ["topic"],
            registry=registry,
        )
        self.tombstones = Counter(
            "chatgauge_sink_tombstones",
            "Expired blocks seen; what ClickHouse has of them stays.",
            ["topic"],
            registry=registry,
        )
        self.missed = Counter(
            "chatgauge_sink_missed_records",
            "Offsets that retention had deleted before they could be read.",
            ["topic"],
            registry=registry,
        )
        self.commit_failures = Counter(
            "chatgauge_sink_commit_failures",
            "Commits that Kafka refused; the rows are in ClickHouse all the same.",
            ["topic"],
            registry=registry,
        )
        self.abandoned = Counter(
            "chatgauge_sink_abandoned_inserts",
            "Inserts given up because the partition went to another sink, which makes them.",
            ["topic"],
            registry=registry,
        )
        self.rebuilt = Counter(
            "chatgauge_sink_rebuilt_minutes",
            "Past minutes whose figures were rebuilt from the raw events.",
            registry=registry,
        )
        self.rebuild_waiting = Gauge(
            "chatgauge_sink_rebuild_waiting_minutes",
            "Past minutes with late, imported or repeated events, to be rebuilt.",
            registry=registry,
        )
        self.rebuild_not_whole = Gauge(
            "chatgauge_sink_rebuild_not_whole_minutes",
            "Those that can't be, their raw events being expired or missing.",
            ["reason"],
            registry=registry,
        )
        self.rebuild_seconds = Histogram(
            "chatgauge_sink_rebuild_seconds",
            "Duration of a round of rebuilding.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.rebuild_failures = Counter(
            "chatgauge_sink_rebuild_failures",
            "Rounds of rebuilding that failed, and are repeated.",
            registry=registry,
        )
