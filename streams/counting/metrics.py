"""What a stream worker tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

EVENTS: Final = Counter("chatgauge_stream_events", "Records read from chat.requests.", ["table"])
COUNTED: Final = Counter("chatgauge_stream_counted", "Finished requests counted in windows.", ["table"])
REFUSED: Final = Counter(
    "chatgauge_stream_refused", "Records that could not be read or were invalid.", ["table", "reason"]
)
TOO_LATE: Final = Counter(
    "chatgauge_stream_too_late", "Live requests that came after their minute had expired.", ["table"]
)
REPEATS: Final = Counter(
    "chatgauge_stream_repeats",
    "Live requests that were not counted, because the same event had come before.",
    ["table"],
)
REMEMBERED: Final = Gauge(
    "chatgauge_stream_remembered_ids", "Ids of recent events that are remembered, to tell repeats.", ["table"]
)
REMEMBERED_BYTES: Final = Gauge(
    "chatgauge_stream_remembered_bytes", "Memory that the remembered ids take.", ["table"]
)
FORGOTTEN_EARLY: Final = Gauge(
    "chatgauge_stream_forgotten_early",
    "Ids that were forgotten before their time, because there were too many; their repeats count.",
    ["table"],
)
STEP_SECONDS: Final = Histogram(
    "chatgauge_stream_step_seconds",
    "From receiving a fetch to its windows being durable.",
    ["table"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
STEP_EVENTS: Final = Histogram(
    "chatgauge_stream_step_events",
    "Records in a fetch.",
    ["table"],
    buckets=(1, 10, 100, 1_000, 5_000, 10_000, 20_000, 40_000, 60_000),
)
BLOCKS: Final = Counter("chatgauge_stream_blocks", "Window blocks written.", ["table"])
BLOCK_BYTES: Final = Counter("chatgauge_stream_block_bytes", "Bytes of window blocks written.", ["table"])
CLOSED: Final = Counter("chatgauge_stream_closed_panes", "Panes closed, by grouping.", ["table", "grouping"])
WATERMARK: Final = Gauge(
    "chatgauge_stream_watermark_seconds", "The watermark, in seconds since 1970.", ["table", "partition"]
)
