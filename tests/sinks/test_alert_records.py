"""Alerts, decisions, notifications and attempts in ClickHouse: each once, also when it was told twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from prometheus_client import CollectorRegistry

from clients.clickhouse.connection import connect
from infra import topics
from infra.settings import ClickHouseSettings, SinkSettings
from schemas.topics import DEAD_LETTERS, Topic
from sinks import alerts
from sinks.dead_letter_producer import DeadLetterProducer
from sinks.insert import Store
from sinks.metrics import SinkMetrics
from sinks.records import RecordWriter
from sinks.sink import Sink
from sinks.writer import Assignment
from tests.sinks.at_work import IN_TIME_S, LINGER
from tests.sinks.making import (
    HELD,
    MINUTE,
    NOON,
    Record,
    alert,
    attempt,
    decision,
    encoded,
    fetch,
    fetch_of,
    notification,
)
from tests.sinks.storing import store

RECORDS = {
    "alerts": ("Alert", alert),
    "decisions": ("Decision", decision),
    "notifications": ("Notification", notification),
    "deliveries": ("DeliveryAttempt", attempt),
}
SECOND = 1_000_000


def stored(client: Client, table: str, records: Iterable[dict[str, Any]], *, first: int = 0) -> None:
    """Puts records into their table, as the sink does."""
    writer = next(made for _, made in alerts.writers(lambda: NOON) if made.table == table)
    values = [encoded(record, RECORDS[table][0]) for record in records]
    step = writer.take([fetch(values, first=first)], frozenset({HELD}), 0.0)
    assert list(step.letters) == []
    store(client, step)


def found(client: Client, query: str) -> list[dict[str, Any]]:
    """The rows of a query, by column."""
    answer = client.query(query, query_tz="UTC", tz_mode="aware")
    return [dict(zip(answer.column_names, row, strict=True)) for row in answer.result_rows]


def instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


# --- one record, one row, purely


@pytest.mark.parametrize(("at", "table"), list(enumerate(RECORDS)))
def test_a_record_is_a_row_and_a_broken_one_a_dead_letter(at: int, table: str) -> None:
    topic, writer = alerts.writers(lambda: NOON)[at]
    record, make = RECORDS[table]
    good = encoded(make(3), record)
    step = writer.take([fetch([good, good[:-1]], first=7)], frozenset({HELD}), 0.0)
    (insert,) = step.inserts
    (row,) = insert.rows.to_pylist()
    assert (insert.table, insert.token) == (table, f"{topic.name}/0/7-7")
    assert (row["_partition"], row["_offset"], row["arrived_at"]) == (0, 7, instant(NOON))
    told = {name: instant(v) if name.endswith("_at") else v for name, v in make(3).items()}
    assert {name: row[name] for name in told if not name.startswith("window_")} == {
        name: value for name, value in told.items() if not name.startswith("window_")
    }
    assert [(letter["topic"], letter["offset"]) for letter in step.letters] == [(topic.name, 8)]


# --- from Kafka into ClickHouse


@dataclass(frozen=True)
class Told:
    """Topics of the test's own, two partitions each, and a database."""

    bootstrap: str
    clickhouse: ClickHouseSettings
    client: Client
    topics: Sequence[Topic]
    letters: Topic

    async def send(self, table: str, records: Iterable[dict[str, Any]], *, partition: int = 0) -> None:
        topic = self.topics[list(RECORDS).index(table)]
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for record in records:
                value = encoded(record, RECORDS[table][0])
                await producer.send(topic.name, value, partition=partition)
            await producer.flush()

    def counts(self, final: str = "FINAL") -> list[int]:
        counted = [self.client.query(f"SELECT count() FROM {table} {final}") for table in RECORDS]
        return [answer.result_rows[0][0] for answer in counted]

    @contextlib.asynccontextmanager
    async def sinks(self, *, without_commits: bool = False) -> AsyncIterator[None]:
        """The sinks of all four topics."""
        metrics = SinkMetrics(CollectorRegistry())
        store = Store(lambda: connect(self.clickhouse), metrics)
        box = DeadLetterProducer(self.bootstrap, metrics, self.letters)
        stopping = asyncio.Event()
        running = []
        for topic, (_, table) in zip(self.topics, alerts.TABLES, strict=True):
            sink = Sink(
                topic,
                RecordWriter(topic, table, lambda: NOON),
                bootstrap=self.bootstrap,
                store=store,
                box=box,
                metrics=metrics,
                settings=SinkSettings(linger=LINGER, max_rows=1_000),
            )
            if without_commits:
                sink._consumer.commit = _lost  # type: ignore[method-assign]
            running.append(asyncio.create_task(sink.run(stopping)))
        try:
            yield
        finally:
            stopping.set()
            ended = await asyncio.gather(*running, return_exceptions=True)
            await box.stop()
            await store.close()
        assert ended == [None] * len(RECORDS)

    async def until(self, counts: list[int], final: str = "FINAL") -> None:
        async with asyncio.timeout(IN_TIME_S):
            while await asyncio.to_thread(self.counts, final) != counts:  # noqa: ASYNC110 - no such event
                await asyncio.sleep(0.05)


async def _lost(positions: object) -> None:
    return None


@pytest.fixture
def told(kafka: str, database: ClickHouseSettings, tables: Client, topic_prefix: str) -> Told:
    own = [replace(topic, name=f"{topic_prefix}-{topic.name}") for topic, _ in alerts.TABLES]
    letters = replace(DEAD_LETTERS, name=f"{topic_prefix}-{DEAD_LETTERS.name}")
    wide = [replace(topic, follows_source=True) for topic in own]
    asyncio.run(topics.create(kafka, partitions=2, topics=[*wide, letters]))
    return Told(kafka, database, tables, own, letters)


async def test_every_record_is_one_row_told_again_by_another_worker_and_after_a_killed_sink(
    told: Told,
) -> None:
    for partition in (0, 1):
        for table, (_, make) in RECORDS.items():
            numbers = range(40 * partition, 40 * (partition + 1))
            await told.send(table, (make(n) for n in numbers), partition=partition)
    async with told.sinks(without_commits=True):
        await told.until([80] * 4)

    # The agents were killed, and tell some of it again; what moved to another worker comes from elsewhere.
    for table, (_, make) in RECORDS.items():
        await told.send(table, (make(n) for n in range(30, 45)), partition=0)
        await told.send(table, [make(100)], partition=1)
    async with told.sinks():
        await told.until([81] * 4)

    assert [
        found(told.client, f"SELECT uniqExact(_partition, _offset) AS n FROM {table}")[0]["n"] <= 96
        for table in RECORDS
    ] == [True] * 4
    told.client.command("OPTIMIZE TABLE alerts FINAL")
    assert told.counts(final="")[0] == 81


# --- what makes a record the same


def test_a_correction_and_a_redrive_are_rows_of_their_own(tables: Client) -> None:
    stored(tables, "alerts", [alert(), alert(judged_at=NOON + 1), alert(revision=1), alert(transition=2)])
    stored(tables, "notifications", [notification(), notification(), notification(redriven=1)])
    stored(tables, "deliveries", [attempt(), attempt(), attempt(1)])
    stored(tables, "decisions", [decision(), decision(decided_at=NOON + 1), decision(1)])
    counted = [tables.query(f"SELECT count() FROM {table} FINAL").result_rows[0][0] for table in RECORDS]
    assert counted == [3, 2, 2, 2]


def test_copies_of_different_days_are_one_when_read(tables: Client) -> None:
    writer = RecordWriter(alerts.TABLES[0][0], "alerts", lambda: NOON)
    value = encoded(alert(), "Alert")
    for at, day in enumerate((0, 1)):
        fetched = fetch_of(
            [Record(at, value, timestamp=NOON // 1_000 + day * 86_400_000)], assignment=Assignment(0, 1)
        )
        for insert in writer.take([fetched], frozenset(), 0.0).inserts:
            tables.insert_arrow(insert.table, insert.rows)
    assert found(tables, "SELECT count() AS n FROM alerts")[0]["n"] == 2
    assert found(tables, "SELECT count() AS n FROM alert_transitions")[0]["n"] == 1


# --- the views


def test_the_views_of_an_alert_from_its_start_to_its_end(tables: Client) -> None:
    steps = [
        alert(7, state="pending", value=0.15),
        alert(7, transition=2, state="firing", changed_at=NOON + MINUTE, value=0.2),
        alert(7, transition=2, revision=1, state="firing", changed_at=NOON + MINUTE, value=0.25),
        alert(8, step=0.8, group=[], value=None),
    ]
    stored(tables, "alerts", steps)
    going_on = found(tables, "SELECT * FROM alerts_now ORDER BY alert_id")
    assert [(row["alert_id"], row["state"], row["value"], row["group"]) for row in going_on] == [
        ("al_7", "firing", 0.25, "service=chat"),
        ("al_8", "firing", None, ""),
    ]
    assert all(row["lasting_s"] > 0 for row in going_on)

    end = alert(7, transition=3, state="resolved", changed_at=NOON + 5 * MINUTE, value=0.01)
    stored(tables, "alerts", [end], first=10)
    assert [row["alert_id"] for row in found(tables, "SELECT * FROM alerts_now")] == ["al_8"]
    history = found(tables, "SELECT * FROM alert_history ORDER BY alert_id")
    assert history[0] | {"summary": ""} == {
        "started_at": instant(NOON + 7),
        "fired_at": instant(NOON + MINUTE),
        "resolved_at": instant(NOON + 5 * MINUTE),
        "lasted_s": 300,
        "alert_id": "al_7",
        "state": "resolved",
        "severity": "error",
        "rule_id": "error-rate",
        "rule_name": "Error rate",
        "kind": "threshold",
        "group": "service=chat",
        "value": 0.25,
        "threshold": 0.1,
        "unit": "ratio",
        "step": None,
        "transitions": 3,
        "corrections": 1,
        "summary": "",
    }
    assert (history[1]["resolved_at"], history[1]["lasted_s"], history[1]["step"]) == (None, None, 0.8)
    transitions = found(tables, "SELECT * FROM alert_transitions WHERE alert_id = 'al_7' ORDER BY transition")
    assert [(row["state"], row["value"], row["corrections"]) for row in transitions] == [
        ("pending", 0.15, 0),
        ("firing", 0.25, 1),
        ("resolved", 0.01, 0),
    ]


def test_the_views_of_decisions_and_deliveries(tables: Client) -> None:
    stored(tables, "decisions", [decision(), decision(), decision(1, what="evaluated", alert_id=None)])
    log = found(tables, "SELECT what, alert_id, silence_id FROM decision_log ORDER BY decided_at")
    assert [tuple(row.values()) for row in log] == [("silenced", "al_0", "s-1"), ("evaluated", None, "s-1")]

    stored(tables, "notifications", [notification(n) for n in range(3)] + [notification(1, redriven=1)])
    failed = {"outcome": "failed", "status": 503, "error": "busy", "next_attempt_at": NOON + 9 * SECOND}
    tries = [
        attempt(0, notification_id="msg_0", **failed),
        attempt(1, notification_id="msg_0", attempt=2, started_at=NOON + 9 * SECOND),
        attempt(2, notification_id="msg_1", outcome="parked", attempt=0, status=None, took_us=0),
        attempt(3, notification_id="msg_1", redriven=1, started_at=NOON + SECOND, **failed),
    ]
    stored(tables, "deliveries", [*tries, tries[0]])
    by_id = found(tables, "SELECT * FROM notification_log ORDER BY notification_id")
    assert [(row["outcome"], row["attempts"], row["status"], row["redriven"]) for row in by_id] == [
        ("delivered", 2, 200, 0),
        ("failed", 1, 503, 1),
        ("waiting", 0, None, 0),
    ]
    assert [row["delivered_at"] for row in by_id] == [instant(NOON + 9_030_000), None, None]
    assert by_id[1]["next_attempt_at"] == instant(NOON + 9 * SECOND)
    (logged,) = found(tables, "SELECT * FROM delivery_log WHERE outcome = 'parked'")
    assert (logged["attempt"], logged["took_ms"], logged["channel"]) == (0, 0, "webhook")
    (minute,) = found(tables, "SELECT * FROM deliveries_per_minute")
    assert (minute["attempts"], minute["delivered"], minute["failed"]) == (3, 1, 2)
    assert (minute["p50_ms"], minute["max_ms"]) == (30, 30)
