"""Rebuilding beside the sinks: when, how long it is put off, and what happens when ClickHouse is away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import OperationalError
from prometheus_client import CollectorRegistry

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings, SinkSettings
from sinks.metrics import SinkMetrics
from sinks.rebuild import automatic
from sinks.rebuild.automatic import AutomaticRebuild, Queue
from sinks.rebuild.history import History, Waiting
from sinks.rebuild.minutes import Outcome, Verdict
from tests.sinks.conftest import FOREVER
from tests.sinks.making import MINUTE, NOON

ONE = Waiting(NOON, stored_at=1, quiet=0.0)
IN_TIME_S = 30.0


def test_a_minute_is_due_when_it_has_been_quiet_and_at_the_latest_after_a_while() -> None:
    queue = Queue(quiet=10.0, delay=120.0)
    assert queue.due([Waiting(NOON, 1, quiet=9.0), Waiting(NOON + MINUTE, 1, quiet=11.0)], 0.0) == [
        NOON + MINUTE
    ]
    assert queue.due([ONE], 119.0) == []
    assert queue.due([ONE], 120.0) == [NOON]
    assert queue.due([ONE], 121.0) == []  # rebuilt, and put off anew
    assert queue.due([ONE], 241.0) == [NOON]
    assert queue.due([], 242.0) == []
    assert queue.due([ONE], 400.0) == []  # seen for the first time again


def test_what_was_not_whole_is_looked_at_again_when_more_has_come_or_after_an_hour() -> None:
    queue = Queue(quiet=0.0, delay=0.0)
    assert queue.due([ONE], 0.0) == [NOON]
    queue.put_off(Outcome(0, {Verdict.EXPIRED: [NOON]}), [ONE], 0.0)
    assert (queue.not_whole(Verdict.EXPIRED), queue.not_whole(Verdict.MISSING)) == (1, 0)
    assert queue.due([ONE], 3_599.0) == []
    assert queue.due([Waiting(NOON, stored_at=2, quiet=0.0)], 3_599.0) == [NOON]
    queue.put_off(Outcome(0, {Verdict.MISSING: [NOON]}), [ONE], 0.0)
    assert queue.due([ONE], 3_601.0) == [NOON]
    assert queue.not_whole(Verdict.MISSING) == 0


class Running:
    """The task, its metrics, and who is responsible."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self.prometheus = CollectorRegistry()
        self.responsible = True
        self.stopping = asyncio.Event()
        self._work = AutomaticRebuild(
            connect,
            lambda client: History(client, ZoneInfo("UTC"), FOREVER.events_days),
            SinkMetrics(self.prometheus),
            SinkSettings(rebuild_quiet=timedelta(0), rebuild_delay=timedelta(0)),
            responsible=lambda: self.responsible,
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._work.run(self.stopping))
        try:
            yield
        finally:
            self.stopping.set()
            async with asyncio.timeout(IN_TIME_S):
                await task

    def metric(self, name: str, **labels: str) -> float:
        return self.prometheus.get_sample_value(f"chatgauge_sink_{name}", labels) or 0.0

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(IN_TIME_S):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - ClickHouse has no such event
                await asyncio.sleep(0.02)


def import_one(client: Client, offset: int, minute: int = NOON) -> None:
    client.command(
        "INSERT INTO events (_partition, _offset, arrived_at, occurred_at, event_id, phase, imported) "
        f"SELECT 0, {offset}, now64(6), fromUnixTimestamp64Micro({minute}), '{offset}', 'finished', true "
        "SETTINGS async_insert = 0"
    )


def shown(client: Client) -> dict[int, int]:
    rows = client.query("SELECT toUnixTimestamp(minute), requests FROM requests_total_per_minute").result_rows
    return {minute * 1_000_000: requests for minute, requests in rows}


async def test_it_rebuilds_what_waits_while_it_is_responsible_through_failures_of_clickhouse(
    tables: Client, database: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(automatic, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(automatic, "_REST", 0)
    away = False

    def connecting() -> Client:
        if away:
            raise OperationalError("nobody there")
        return connect(database)

    running = Running(connecting)
    import_one(tables, 0)
    async with running.run():
        await running.until(lambda: shown(tables) == {NOON: 1})
        await running.until(lambda: running.metric("rebuilt_minutes_total") == 1)
        away = True
        await running.until(lambda: running.metric("rebuild_failures_total") == 1)
        import_one(tables, 1)
        await running.until(lambda: running.metric("rebuild_failures_total") == 2)
        assert shown(tables) == {NOON: 1}
        away = False
        await running.until(lambda: shown(tables) == {NOON: 2})
        await running.until(lambda: running.metric("rebuild_seconds_count") == 2)
        assert running.metric("rebuild_waiting_minutes") == 0

        import_one(tables, 2, NOON + MINUTE)
        tables.command("TRUNCATE TABLE events")
        await running.until(lambda: running.metric("rebuild_not_whole_minutes", reason="expired") == 1)
        assert running.metric("rebuild_waiting_minutes") == 0

        # The same event by another partition: in time, so that nothing but the minute as a whole shows it.
        tables.command(
            "INSERT INTO events (_partition, _offset, arrived_at, occurred_at, event_id, phase) "
            f"SELECT number, 9, at, fromUnixTimestamp64Micro({NOON}) + 3600 AS at, 'x', 'finished' "
            "FROM numbers(2) SETTINGS async_insert = 0, optimize_on_insert = 0"
        )
        await running.until(lambda: shown(tables).get(NOON + 60 * MINUTE) == 1)

        running.responsible = False
        await running.until(lambda: running.metric("rebuild_not_whole_minutes", reason="expired") == 0)
        import_one(tables, 3, NOON + 2 * MINUTE)
        looks = running.metric("rebuild_seconds_count")
        await asyncio.sleep(0.3)
        assert running.metric("rebuild_seconds_count") == looks
        running.responsible = True
        await running.until(lambda: NOON + 2 * MINUTE in shown(tables))
