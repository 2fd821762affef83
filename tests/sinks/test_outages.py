"""What a ClickHouse in trouble says, and one that says nothing: the sink tries again, and can be stopped."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client

from clients import retry
from clients.clickhouse.connection import connect, is_transient
from infra.settings import ClickHouseSettings
from sinks import consumer
from tests.faults.answering import Answering
from tests.faults.proxy import Proxy
from tests.sinks.at_work import Place, sink, stored, until_committed
from tests.sinks.making import encoded, request

PASSING = {
    75: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
    159: "TIMEOUT_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    439: "CANNOT_SCHEDULE_TASK",
    473: "DEADLOCK_AVOIDED",
    740: "POTENTIALLY_BROKEN_DATA_PART",
    999: "KEEPER_EXCEPTION",
    1001: "STD_EXCEPTION",
}
LASTING = {
    16: "NO_SUCH_COLUMN_IN_TABLE",
    53: "TYPE_MISMATCH",
    60: "UNKNOWN_TABLE",
    516: "AUTHENTICATION_FAILED",
}


@pytest.mark.parametrize("code", [*PASSING, *LASTING], ids=[*PASSING.values(), *LASTING.values()])
def test_troubles_pass_and_mistakes_stay(code: int, clickhouse: ClickHouseSettings) -> None:
    with Answering(code) as trouble:
        away = clickhouse.model_copy(update={"port": trouble.address[1]})
        with pytest.raises(Exception, match=f"Code: {code}") as raised:
            connect(away)
    assert is_transient(raised.value) is (code in PASSING)


async def test_a_full_disk_is_waited_for(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(100)])
    with Answering(243) as full, Proxy(full.address) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as running:
            await running.until(lambda: running.metric("chatgauge_sink_retries_total", code="243") > 1)
            assert await place.committed(place.requests) is None
            proxy.target = ("127.0.0.1", place.clickhouse.port)
            await until_committed(place, place.requests, 100)
    assert stored(place) == list(range(100))


async def test_an_insert_that_lands_after_its_sink_has_gone_is_merged_away(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.sink._GRACE_S", 1.0)
    place.client.command("SYSTEM STOP MERGES events")
    with Proxy(("127.0.0.1", place.clickhouse.port)) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as running:
            await place.send(place.requests, [encoded(request(0))])
            await until_committed(place, place.requests, 1)
            proxy.freeze()
            await place.send(place.requests, [encoded(request(n)) for n in range(1, 100)])
            name = place.requests.name
            await running.until(lambda: running.metric("chatgauge_sink_records_total", topic=name) == 100)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5.0
        await place.send(place.requests, [encoded(request(n)) for n in range(100, 200)])
        async with sink(place, place.requests) as running:
            await running.until(lambda: len(stored(place, "FINAL")) == 200)
            proxy.thaw()
            await running.until(lambda: len(stored(place)) == 200 + 99)
    assert stored(place, "FINAL") == list(range(200))


async def test_a_sink_that_does_not_know_that_it_was_replaced_adds_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(consumer._SETTINGS, "session_timeout_ms", 2_000)  # type: ignore[index]
    monkeypatch.setitem(consumer._SETTINGS, "heartbeat_interval_ms", 300)  # type: ignore[index]
    monkeypatch.setattr(consumer, "_FRESH_S", 1.4)
    monkeypatch.setattr(consumer, "_ASK_AGAIN_S", 0.7)
    monkeypatch.setattr(retry, "_LONGEST_S", 0.1)
    place.client.command("SYSTEM STOP MERGES events")  # what is doubled shall be seen
    name = place.requests.name

    async def dream(*_: object) -> bool:
        await asyncio.sleep(0.1)
        return True

    with Proxy(("127.0.0.1", place.clickhouse.port)) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as late:
            await place.send(place.requests, [encoded(request(n)) for n in range(10)])
            await until_committed(place, place.requests, 10)
            proxy.refuse()
            proxy.reset_all()
            await place.send(place.requests, [encoded(request(n)) for n in range(10, 20)])
            await late.until(lambda: late.metric("chatgauge_sink_records_total", topic=name) == 20)
            asleep = late.sink._consumer
            with monkeypatch.context() as sleeping:
                # Kafka hears nothing of it, and it of Kafka: it takes itself for a member of the group.
                sleeping.setattr(asleep._consumer._coordinator, "_do_heartbeat", dream)
                sleeping.setattr(asleep, "_commit", dream)
                await place.send(place.requests, [encoded(request(n)) for n in range(20, 30)])
                async with sink(place, place.requests) as other:
                    await other.until(lambda: len(stored(place)) == 30)
                    sleeping.undo()
                    proxy.accept()
                    await late.until(
                        lambda: late.metric("chatgauge_sink_abandoned_inserts_total", topic=name) >= 1
                    )
    assert stored(place) == list(range(30))


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends, "not in time"
        time.sleep(0.05)


def test_sigterm_ends_the_process_in_time_though_clickhouse_never_answers(
    kafka: str, database: ClickHouseSettings, client: Client, create_topics: Callable[..., None]
) -> None:
    create_topics(kafka, partitions=2)
    with Proxy(("127.0.0.1", database.port)) as proxy:
        settings = {
            "CHATGAUGE_KAFKA_BOOTSTRAP": kafka,
            "CHATGAUGE_CLICKHOUSE_PORT": str(proxy.port),
            "CHATGAUGE_CLICKHOUSE_DATABASE": database.database,
            "CHATGAUGE_CLICKHOUSE_PASSWORD": database.password.get_secret_value(),
            "CHATGAUGE_SINK_METRICS_PORT": "0",
        }
        start = [sys.executable, "-c", "from sinks.main import run; run()"]
        with subprocess.Popen(start, env=os.environ | settings) as child:
            try:
                tables = (
                    "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'events'"
                )
                until(lambda: client.query(tables).result_rows == [(1,)])
                proxy.freeze()
                begun = time.monotonic()
                child.send_signal(signal.SIGTERM)
                assert child.wait(30) == 0
                assert time.monotonic() - begun < 10
            finally:
                child.kill()
