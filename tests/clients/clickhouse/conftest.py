"""A client of an empty database."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings


@pytest.fixture
def client(database: ClickHouseSettings) -> Iterator[Client]:
    with connect(database) as client:
        yield client
