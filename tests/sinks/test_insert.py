"""How many inserts are made at once, and that the claim is looked at last of all."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from sinks import insert
from sinks.consumer import TopicConsumer
from sinks.insert import Abandoned, Store
from sinks.metrics import SinkMetrics
from sinks.sink import _Claim
from sinks.writer import Assignment, Insert


class Held:
    """A client whose inserts end when `released` is set; it notes how many were under way at once."""

    def __init__(self, expected: int) -> None:
        self.released = threading.Event()
        self.enough = threading.Event()
        self._expected = expected
        self.begun = self.under_way = self.most = 0
        self._lock = threading.Lock()

    def insert_arrow(self, table: str, rows: pa.Table, settings: dict[str, Any]) -> None:
        with self._lock:
            self.begun += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            if self.under_way == self._expected:
                self.enough.set()
        self.released.wait(10)
        with self._lock:
            self.under_way -= 1


class Ours:
    """A claim that holds until it is lost."""

    lost = False

    def wanted(self) -> bool:
        return not self.lost

    def is_fresh(self) -> bool:
        return not self.lost

    async def confirm(self) -> None:
        return None


def store_of(client: Held) -> Store:
    return Store(lambda: cast("Client", client), SinkMetrics(CollectorRegistry()))


def rows_named(name: str, rows: int) -> Insert:
    return Insert("events", pa.table({"n": pa.array(range(rows))}), name)


async def made_at_once(rows: int, inserts: int, expected: int) -> int:
    """The most inserts that were under way together, once there were as many as expected."""
    client = Held(expected)
    store = store_of(client)
    waiting = asyncio.gather(
        *(store.insert(rows_named(f"t/{number}", rows), Ours()) for number in range(inserts))
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


async def test_who_loses_the_partition_while_waiting_for_a_turn_inserts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(insert, "_FEW_AT_ONCE", 1)
    client, claim = Held(expected=1), Ours()
    store = store_of(client)
    first = asyncio.ensure_future(store.insert(rows_named("t/0", 10), Ours()))
    assert await asyncio.to_thread(client.enough.wait, 10)
    second = asyncio.ensure_future(store.insert(rows_named("t/1", 10), claim))
    await asyncio.sleep(0)
    claim.lost = True
    client.released.set()
    await first
    with pytest.raises(Abandoned):
        await second
    assert client.begun == 1


def test_a_claim_to_a_partition_that_has_gone_is_never_fresh() -> None:
    """Even where Kafka has just confirmed that others are ours."""
    gone, ours = Assignment(0, 1), Assignment(1, 2)
    consumer = cast("TopicConsumer", SimpleNamespace(held=frozenset([ours]), is_fresh=lambda: True))
    giving_up = asyncio.Event()
    assert not _Claim(consumer, gone, giving_up).is_fresh()
    assert _Claim(consumer, ours, giving_up).is_fresh()
    assert _Claim(consumer, None, giving_up).is_fresh(), "what needs no partition may always be written"
    giving_up.set()
    assert not _Claim(consumer, ours, giving_up).is_fresh()
