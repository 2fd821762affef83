"""What a sink does with its topic's records, without a sink."""

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from schemas.topics import WINDOWS
from sinks.metrics import SinkMetrics
from sinks.windows import WindowWriter
from sinks.writer import Step

UTC_ZONE = ZoneInfo("UTC")


def window_writer(
    now: Callable[[], int], timezone: ZoneInfo = UTC_ZONE, max_rows: int = 100_000
) -> WindowWriter:
    """Writes open panes at once, too."""
    return WindowWriter(
        WINDOWS,
        now,
        SinkMetrics(CollectorRegistry()),
        open_pane_interval=timedelta(0),
        timezone=timezone,
        max_rows=max_rows,
    )


def store(client: Client, step: Step) -> None:
    """Insert what a writer made; again, with the same step, adds nothing."""
    for insert in step.inserts:
        client.insert_arrow(
            insert.table,
            insert.rows,
            settings={"insert_deduplication_token": insert.token, "async_insert": 0},
        )
