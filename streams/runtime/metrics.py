"""What the runtime tells Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge

FOREIGN_WRITES: Final = Counter(
    "chatgauge_stream_foreign_writes",
    "Blocks out of date that a worker wrote after its partition had moved, and that were replaced.",
    ["table"],
)
REWINDS: Final = Counter(
    "chatgauge_stream_rewinds",
    "Fetches that got lost on the way to the worker, and were fetched again.",
    ["table"],
)
UNREADABLE_ENTRIES: Final = Counter(
    "chatgauge_stream_unreadable_entries",
    "Entries of a changelog that can't be read: nobody here wrote them, and they are left alone.",
    ["table"],
)
UNREADABLE_BATCHES: Final = Counter(
    "chatgauge_stream_unreadable_batches",
    "Record batches that an agent could not unpack or read to their end.",
    ["topic"],
)
KEPT_ENTRIES: Final = Gauge(
    "chatgauge_stream_kept_blocks", "Entries in the state: window blocks, for one.", ["table"]
)
