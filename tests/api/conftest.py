"""A ClickHouse with the tables of Chatgauge, and windows in it as the sink writes them."""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from clients.clickhouse.connection import connect
from infra.ports import free_port
from infra.settings import ClickHouseSettings, RetentionSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import Topic
from sinks.alerts import writers
from sinks.tables import migrate
from sinks.views import making
from sinks.writer import Assignment, Step
from tests.sinks.making import Record, fetch_of
from tests.sinks.storing import window_writer

_KEPT = ("events", "spans", "samples", "windows", "alerts", "decisions", "deliveries")
WriteWindows = Callable[[Sequence[tuple[int, bytes, bytes]]], None]


@pytest.fixture
def away() -> ClickHouseSettings:
    """A ClickHouse that is not there."""
    return ClickHouseSettings(host="127.0.0.1", port=free_port())


def _migrated(settings: ClickHouseSettings) -> None:
    kept = {f"{what}_days": 10_000 for what in _KEPT}
    with connect(settings) as client:
        migrate(client, RetentionSettings.model_validate(kept))
        making.make(client)


@pytest.fixture
def tables(database: ClickHouseSettings) -> ClickHouseSettings:
    """A database with Chatgauge's tables, which keep everything."""
    _migrated(database)
    return database


@pytest.fixture(scope="module")
def shared_tables(clickhouse: ClickHouseSettings) -> Iterator[ClickHouseSettings]:
    """The same for all tests of a module that only read: making the tables takes seconds."""
    settings = clickhouse.model_copy(update={"database": f"test_{uuid.uuid4().hex[:12]}"})
    with connect(clickhouse, database="default") as client:
        client.command(f"CREATE DATABASE {settings.database}")
        _migrated(settings)
        yield settings
        client.command(f"DROP DATABASE {settings.database}")


@pytest.fixture
def write_windows(tables: ClickHouseSettings) -> WriteWindows:
    """Writes blocks, given as (partition, key, value), to ClickHouse as the sink does."""
    return lambda blocks: store_windows(tables, blocks)


def store_windows(tables: ClickHouseSettings, blocks: Sequence[tuple[int, bytes, bytes]]) -> None:
    """Writes blocks, given as (partition, key, value), as the sink does."""
    writer = window_writer(lambda: 1_777_900_000_000_000)
    assignment = Assignment(0, 0)
    records = [Record(n, value, key, 0) for n, (_, key, value) in enumerate(blocks)]
    fetched = fetch_of(records, assignment=assignment)
    _insert(tables, writer.take([fetched], frozenset({assignment}), 0.0, last=True))


def store_records(tables: ClickHouseSettings, topic: Topic, records: Sequence[Mapping[str, Any]]) -> None:
    """Writes all records of a topic (alerts, decisions, notifications, deliveries) as the sink does."""
    codec = Codec(schema(topic.record))
    kept = [
        Record(offset, codec.encode(record), b"", 1_777_896_000_000) for offset, record in enumerate(records)
    ]
    writer = {each.name: writer for each, writer in writers(lambda: 1_777_896_000_000_000)}[topic.name]
    assignment = Assignment(0, 0)
    step = writer.take([fetch_of(kept, assignment=assignment)], frozenset({assignment}), 0.0, last=True)
    assert not step.letters
    _insert(tables, step)


def _insert(tables: ClickHouseSettings, step: Step) -> None:
    with connect(tables) as client:
        for insert in step.inserts:
            client.insert_arrow(insert.table, insert.rows, settings={"async_insert": 0})
