"""A database with the tables in it."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from infra.settings import ClickHouseSettings, RetentionSettings
from sinks.clickhouse import connect
from sinks.tables import migrate

FOREVER = RetentionSettings(
    events_days=10_000, spans_days=10_000, samples_days=10_000, dead_letters_days=10_000, windows_days=10_000
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
    return client
