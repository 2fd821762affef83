"""A database with the tables in it, and topics beside it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra import topics
from infra.settings import ClickHouseSettings, RetentionSettings
from schemas.topics import DEAD_LETTERS, REQUESTS, WINDOWS
from sinks.tables import migrate
from sinks.views import making
from tests.sinks.at_work import PARTITIONS, Place

FOREVER = RetentionSettings(
    events_days=10_000,
    spans_days=10_000,
    samples_days=10_000,
    dead_letters_days=10_000,
    windows_days=10_000,
    alerts_days=10_000,
    decisions_days=10_000,
    deliveries_days=10_000,
)
"""Tests write the events of a fixed day."""


@pytest.fixture
def client(database: ClickHouseSettings) -> Iterator[Client]:
    """A client of the fresh, empty database."""
    with connect(database) as client:
        yield client


@pytest.fixture
def tables(client: Client) -> Client:
    """A client of a fresh database with all tables and views."""
    migrate(client, FOREVER)
    making.make(client)
    return client


@pytest.fixture
def place(kafka: str, database: ClickHouseSettings, tables: Client, topic_prefix: str) -> Place:
    own = [replace(topic, name=f"{topic_prefix}-{topic.name}") for topic in (REQUESTS, WINDOWS, DEAD_LETTERS)]
    asyncio.run(topics.create(kafka, partitions=PARTITIONS, topics=own))
    return Place(kafka, database, tables, *own)
