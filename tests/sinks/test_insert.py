"""How many inserts are made at once."""

import asyncio
import threading
from typing import Any, cast

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from sinks import insert
from sinks.insert import Store
from sinks.metrics import SinkMetrics
from sinks.writer import Insert


class Held:
    """A client whose inserts end when `released` is set; it notes how many were under way at once."""

    def __init__(self, expected: int) -> None:
        self.released = threading.Event()
        self.enough = threading.Event()
        self._expected = expected
        self.under_way = self.most = 0
        self._lock = threading.Lock()

    def insert_arrow(self, table: str, rows: pa.Table, settings: dict[str, Any]) -> None:
        with self._lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            if self.under_way == self._expected:
                self.enough.set()
        self.released.wait(10)
        with self._lock:
            self.under_way -= 1


class Ours:
    """A claim that holds."""

    def wanted(self) -> bool:
        return True

    def is_fresh(self) -> bool:
        return True

    async def confirm(self) -> None:
        return None


async def made_at_once(rows: int, inserts: int, expected: int) -> int:
    """The most inserts that were under way together, once there were as many as expected."""
    client = Held(expected)
    store = Store(lambda: cast("Client", client), SinkMetrics(CollectorRegistry()))
    table = pa.table({"n": pa.array(range(rows))})
    waiting = asyncio.gather(
        *(store.insert(Insert("events", table, f"t/{number}"), Ours()) for number in range(inserts))
    )
    assert await asyncio.to_thread(client.enough.wait, 10)
    client.released.set()
    await waiting
    return client.most


async def test_small_inserts_take_turns_so_that_a_seconds_are_no_burst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(insert, "_FEW_AT_ONCE", 2)
    assert await made_at_once(rows=10, inserts=6, expected=2) == 2


async def test_large_inserts_are_made_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insert, "_FEW_AT_ONCE", 2)
    assert await made_at_once(rows=5_000, inserts=6, expected=6) == 6
