"""What dashboards and alarms ask Prometheus for stays."""

import pytest
from prometheus_client import Counter, Gauge, generate_latest

from streams.runtime import metrics


@pytest.mark.parametrize(
    ("metric", "sample"),
    [
        (metrics.FOREIGN_WRITES, 'chatgauge_stream_foreign_writes_total{table="t"} 2.0'),
        (metrics.REWINDS, 'chatgauge_stream_rewinds_total{table="t"} 2.0'),
        (metrics.UNREADABLE_ENTRIES, 'chatgauge_stream_unreadable_entries_total{table="t"} 2.0'),
        (metrics.UNREADABLE_BATCHES, 'chatgauge_stream_unreadable_batches_total{topic="t"} 2.0'),
        (metrics.KEPT_ENTRIES, 'chatgauge_stream_kept_blocks{table="t"} 2.0'),
    ],
)
def test_a_metric_has_its_name_and_label(metric: Counter | Gauge, sample: str) -> None:
    metric.clear()
    metric.labels("t").inc(2)
    assert sample in generate_latest().decode().splitlines()
    metric.clear()
