"""docs/clickhouse.md: its examples run and find something, and it names every table and view."""

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings, RetentionSettings
from schemas.codec import Codec
from schemas.contract import schema
from sinks import alerts, events, samples, spans
from sinks.dead_letters import DeadLetterWriter
from sinks.metrics import SinkMetrics
from sinks.tables import prepare
from sinks.writer import Writer
from streams.catalogue.groupings import GROUPINGS
from streams.counting.pricing import PriceList
from tests.sinks.making import (
    HELD,
    MINUTE,
    Record,
    alert,
    attempt,
    block,
    block_record,
    decision,
    encoded,
    fetch_of,
    notification,
    request,
    rows_of,
    sample,
    span,
)
from tests.sinks.storing import store, window_writer

GUIDE = (Path(__file__).parents[2] / "docs" / "clickhouse.md").read_text()
EXAMPLES = re.findall(r"```sql\n(.*?);\n```", GUIDE, re.DOTALL)
DAY = 24 * 60 * MINUTE


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouseSettings) -> Iterator[Client]:
    """A database in which one request, with all that belongs to it, has just come in, and an alert."""
    settings = clickhouse.model_copy(update={"database": f"guide_{uuid.uuid4().hex[:12]}"})
    prepare(settings, RetentionSettings())
    now = time.time_ns() // 1_000
    metrics = SinkMetrics(CollectorRegistry())
    letter = {
        "topic": "chat.requests",
        "partition": 0,
        "offset": 1,
        "arrived_at": now,
        "refused_at": now,
        "refused_by": "sink",
        "reason": "malformed",
        "detail": "cut",
        "value": b"\xc3\x01",
    }
    windows = window_writer(lambda: now, max_rows=1_000)
    arrived: list[tuple[Writer, list[bytes]]] = [
        (events.writer(lambda: now, PriceList()), [encoded(request(1, occurred_at=now, trace_id="trace"))]),
        (spans.writer(lambda: now), [encoded(span(1, occurred_at=now), "SpanEvent")]),
        (samples.writer(lambda: now), [encoded(sample(1, occurred_at=now), "Sample")]),
        (DeadLetterWriter(metrics), [Codec(schema("DeadLetter")).encode(letter)]),
    ]
    arrived += zip((made for _, made in alerts.writers(lambda: now)), told(now), strict=True)
    with connect(settings) as client:
        for writer, values in arrived:
            records = [Record(at, value, timestamp=now // 1_000) for at, value in enumerate(values)]
            write(client, writer, records)
        write(client, windows, list(window_records(now)))
        client.command("INSERT INTO rebuilt_minutes (minute, generation) VALUES (now() - 86400, 1)")
        yield client
        client.command(f"DROP DATABASE {settings.database}")


def told(now: int) -> Iterator[list[bytes]]:
    """One alert; a decision about it; two notifications of it, of which one has arrived; the attempts."""
    yield [encoded(alert(started_at=now, changed_at=now), "Alert")]
    yield [encoded(decision(decided_at=now), "Decision")]
    yield [encoded(notification(n, created_at=now), "Notification") for n in range(2)]
    failed = {"outcome": "failed", "status": 503, "next_attempt_at": now + 5_000_000}
    attempts = [attempt(0, started_at=now), attempt(1, started_at=now, **failed)]
    yield [encoded(made, "DeliveryAttempt") for made in attempts]


def window_records(now: int) -> Iterator[Record]:
    figures = {"requests": 1, "errors": 1, "prompt_tokens": 100, "completion_tokens": 10}
    keys = {"service": ("chat",), "model": ("openai", "gpt-4o"), "workflow": ("w", "1"), "total": ()}
    for at, grouping in enumerate(GROUPINGS.values()):
        row = figures | {name: [1_000_000] for name in grouping.latencies}
        rows = rows_of(grouping.name, {keys.get(grouping.name, ("x",)): row})
        for pane, length in (("1m", MINUTE), ("1d", DAY)):
            made = block(rows, pane=pane, start=now // length * length, grouping=grouping.name)
            yield block_record(2 * at + (pane == "1d"), made)


def write(client: Client, writer: Writer, records: list[Record]) -> None:
    step = writer.take([fetch_of(records)], frozenset({HELD}), 0.0)
    assert not step.letters
    store(client, step)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: re.search(r"FROM (\w+)", example)[1])
def test_every_example_finds_what_it_asks_for(tables: Client, example: str) -> None:
    found = tables.query(example).result_rows
    if "!=" in example:
        assert found == []  # nothing on which windows and raw events disagree
    else:
        assert len(found) == 1


def test_every_table_and_view_is_described(tables: Client) -> None:
    made = tables.query("SELECT name FROM system.tables WHERE database = currentDatabase()").result_rows
    assert [name for (name,) in made if f"`{name}`" not in GUIDE] == []
    assert len(EXAMPLES) > 10
