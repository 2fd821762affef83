"""A ClickHouse with the tables of Chatgauge, and windows in it as the sink writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry

from infra.ports import free_port
from infra.settings import ClickHouseSettings, RetentionSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import WINDOWS, Topic
from sinks.alerts import writers
from sinks.clickhouse import connect
from sinks.metrics import SinkMetrics
from sinks.tables import migrate
from sinks.windows import WindowWriter
from sinks.writer import Fetch, Tenure

WriteRecords = Callable[[Topic, Sequence[Mapping[str, Any]]], None]
WriteWindows = Callable[[Sequence[tuple[int, bytes, bytes]]], None]


@dataclass(frozen=True)
class _Record:
    offset: int
    timestamp: int
    key: bytes
    value: bytes


@pytest.fixture
def away() -> ClickHouseSettings:
    """A ClickHouse that is not there."""
    return ClickHouseSettings(host="127.0.0.1", port=free_port())


@pytest.fixture
def tables(database: ClickHouseSettings) -> ClickHouseSettings:
    """A database with Chatgauge's tables, which keep everything."""
    with connect(database) as client:
        kept = {f"{what}_days": 10_000 for what in ("windows", "alerts", "decisions", "deliveries")}
        migrate(client, RetentionSettings.model_validate(kept))
    return database


@pytest.fixture
def write_windows(tables: ClickHouseSettings) -> WriteWindows:
    """Writes blocks, given as (partition, key, value), to ClickHouse as the sink does."""

    def write(blocks: Sequence[tuple[int, bytes, bytes]]) -> None:
        writer = WindowWriter(
            WINDOWS,
            lambda: 1_777_900_000_000_000,
            SinkMetrics(CollectorRegistry()),
            open_pane_interval=timedelta(0),
            timezone=ZoneInfo("UTC"),
            max_rows=100_000,
        )
        tenure = Tenure(0, 0)
        records = [_Record(n, 0, key, value) for n, (_, key, value) in enumerate(blocks)]
        step = writer.take([Fetch(tenure, records)], frozenset({tenure}), 0.0, last=True)
        with connect(tables) as client:
            for insert in step.inserts:
                client.insert_arrow(insert.table, insert.rows, settings={"async_insert": 0})

    return write


@pytest.fixture
def write_records(tables: ClickHouseSettings) -> WriteRecords:
    """Writes records of a topic (alerts, decisions, notifications, deliveries) to ClickHouse as the sink
    does; each call goes on behind the one before."""
    ends: dict[str, int] = {}

    def write(topic: Topic, records: Sequence[Mapping[str, Any]]) -> None:
        codec = Codec(schema(topic.record))
        first = ends.get(topic.name, 0)
        ends[topic.name] = first + len(records)
        kept = [
            _Record(first + n, 1_777_896_000_000, b"", codec.encode(record))
            for n, record in enumerate(records)
        ]
        writer = dict(writers(lambda: 1_777_896_000_000_000))[topic]
        tenure = Tenure(0, 0)
        step = writer.take([Fetch(tenure, kept)], frozenset({tenure}), 0.0, last=True)
        assert not step.letters
        with connect(tables) as client:
            for insert in step.inserts:
                client.insert_arrow(insert.table, insert.rows, settings={"async_insert": 0})

    return write
