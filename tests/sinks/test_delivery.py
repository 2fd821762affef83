"""From a real Kafka into ClickHouse's engine: every record once, whatever fails in between."""

import asyncio
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import REQUESTS, Topic
from sinks.errors import InsertRefusedError, TopicRecreatedError
from streams.windows.block import Block, write_block
from tests.faults.proxy import Proxy
from tests.sinks.at_work import (
    IN_TIME_S,
    PARTITIONS,
    Place,
    letter_writer,
    sink,
    stored,
    until_committed,
    window_writer,
)
from tests.sinks.making import NOON, block, encoded, request, rows_of


async def test_every_record_of_every_partition_becomes_a_row(place: Place) -> None:
    for partition in range(PARTITIONS):
        numbers = range(2_500 * partition, 2_500 * (partition + 1))
        await place.send(place.requests, [encoded(request(n)) for n in numbers], partition=partition)
    async with sink(place, place.requests) as running:
        await running.until(lambda: len(stored(place)) == 5_000)
    assert stored(place) == [*range(2_500), *range(2_500)]
    assert [await place.committed(place.requests, p) for p in range(PARTITIONS)] == [2_500, 2_500]
    assert running.metric("chatgauge_sink_rows_total", topic=place.requests.name, table="events") == 5_000


async def test_a_sink_that_died_between_insert_and_commit_writes_nothing_twice(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(100)])
    async with sink(place, place.requests, without_commits=True) as running:
        await running.until(lambda: len(stored(place)) == 100)
    assert await place.committed(place.requests) is None
    await place.send(place.requests, [encoded(request(n)) for n in range(100, 150)])
    async with sink(place, place.requests) as running:
        await running.until(lambda: len(stored(place)) >= 150)
    assert stored(place) == list(range(150))
    assert running.metric("chatgauge_sink_rows_total", topic=place.requests.name, table="events") == 50


async def test_where_retention_emptied_the_table_the_committed_offset_counts(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(10)])
    async with sink(place, place.requests) as running:
        await running.until(lambda: len(stored(place)) == 10)
    place.client.command("TRUNCATE TABLE events")
    await place.send(place.requests, [encoded(request(10))])
    async with sink(place, place.requests) as running:
        await running.until(lambda: stored(place) != [])
    assert stored(place) == [10]


async def test_an_insert_whose_answer_was_lost_is_repeated_and_stored_once(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(100)])
    with Proxy(("127.0.0.1", place.clickhouse.port)) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        proxy.lose_responses(marker=b"insert_deduplication_token")
        async with sink(place, place.requests, clickhouse=away) as running:
            await running.until(lambda: proxy.lost == 1)
            await running.until(
                lambda: (
                    running.metric("chatgauge_sink_rows_total", topic=place.requests.name, table="events")
                    == 100
                )
            )
    assert running.metric("chatgauge_sink_retries_total", code="0") >= 1
    assert stored(place) == list(range(100))


async def test_while_clickhouse_is_away_offsets_stay_and_then_all_of_it_comes(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(50)])
    with Proxy(("127.0.0.1", place.clickhouse.port)) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as running:
            await until_committed(place, place.requests, 50)
            proxy.refuse()
            proxy.reset_all()
            await place.send(place.requests, [encoded(request(n)) for n in range(50, 5_000)])
            await running.until(
                lambda: (
                    running.metric("chatgauge_sink_retries_total", code="0") > 2
                    and running.metric("chatgauge_sink_clickhouse_up") == 0
                )
            )
            assert await place.committed(place.requests) == 50
            # One step is being written and one waits; what comes after stays in Kafka.
            assert running.metric("chatgauge_sink_records_total", topic=place.requests.name) <= 50 + 3 * 1_000
            proxy.accept()
            await running.until(lambda: len(stored(place)) == 5_000)
            await running.until(lambda: running.metric("chatgauge_sink_clickhouse_up") == 1)
    assert stored(place) == list(range(5_000))
    assert await place.committed(place.requests) == 5_000


async def test_a_sink_told_to_stop_while_clickhouse_is_away_leaves_the_rest_to_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.sink._GRACE_S", 0.5)
    with Proxy(("127.0.0.1", place.clickhouse.port)) as proxy:
        away = place.clickhouse.model_copy(update={"port": proxy.port})
        async with sink(place, place.requests, clickhouse=away) as running:
            await place.send(place.requests, [encoded(request(0))])
            await until_committed(place, place.requests, 1)
            proxy.refuse()
            proxy.reset_all()
            await place.send(place.requests, [encoded(request(1))])
            await running.until(lambda: running.metric("chatgauge_sink_retries_total", code="0") > 0)
    assert await place.committed(place.requests) == 1
    async with sink(place, place.requests) as running:
        await running.until(lambda: len(stored(place)) == 2)


async def test_a_table_that_does_not_fit_stops_the_sink_loudly(place: Place) -> None:
    place.client.command("ALTER TABLE events DROP COLUMN streamed")
    await place.send(place.requests, [encoded(request())])
    with pytest.raises(InsertRefusedError, match="events"):
        async with sink(place, place.requests) as running:
            await running.until(lambda: False)
    assert await place.committed(place.requests) is None


async def test_a_topic_that_was_created_again_stops_the_sink(place: Place) -> None:
    await place.send(place.requests, [encoded(request(n)) for n in range(10)])
    async with sink(place, place.requests) as running:
        await running.until(lambda: len(stored(place)) == 10)
    await recreate(place, place.requests)
    with pytest.raises(TopicRecreatedError, match="ClickHouse has reached 10"):
        async with sink(place, place.requests) as running:
            await running.until(lambda: False)
    assert stored(place) == list(range(10))


async def recreate(place: Place, topic: Topic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic.name])
        async with asyncio.timeout(IN_TIME_S):
            while topic.name in await admin.list_topics():  # noqa: ASYNC110 - Kafka has no such event
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await topics.create(place.bootstrap, partitions=PARTITIONS, topics=[topic])


async def test_what_is_refused_is_a_dead_letter_and_its_neighbours_are_rows(place: Place) -> None:
    good = [encoded(request(n)) for n in range(5)]
    bad = b"\xc3\x01 no such schema"
    large = good[4] + bytes(900_000)
    await place.send(place.requests, [good[0], bad, good[1], large, None, good[2]], partition=1)
    async with sink(place, place.requests) as running, sink(place, place.letters, letter_writer) as letters:
        await running.until(lambda: len(stored(place)) == 3)
        await letters.until(lambda: place.rows("SELECT count() FROM dead_letters") == [(3,)])
    assert stored(place) == [0, 2, 5]
    assert await place.committed(place.requests, 1) == 6
    topic = place.requests.name
    columns = "topic, partition, offset, reason, refused_by, key, length(value)"
    assert place.rows(f"SELECT {columns} FROM dead_letters FINAL ORDER BY offset") == [
        (topic, 1, 1, "unknown_schema", "sink", "k", len(bad)),
        (topic, 1, 3, "left_over_bytes", "sink", "k", len(large)),
        (topic, 1, 4, "empty", "sink", "k", None),
    ]
    for reason in ("unknown_schema", "left_over_bytes", "empty"):
        assert running.metric("chatgauge_sink_dead_letters_total", topic=topic, reason=reason) == 1


async def test_a_dead_letter_sent_twice_is_one_row(place: Place) -> None:
    letter = {
        "topic": REQUESTS.name,
        "partition": 3,
        "offset": 7,
        "arrived_at": NOON,
        "refused_at": NOON,
        "refused_by": "sink",
        "reason": "malformed",
        "detail": "",
    }
    value = Codec(schema("DeadLetter")).encode(letter)
    await place.send(place.letters, [value, value, b"not a letter"])
    async with sink(place, place.letters, letter_writer) as running:
        await running.until(lambda: running.metric("chatgauge_sink_lag_records") == 0)
        await running.until(lambda: place.rows("SELECT count() FROM dead_letters FINAL") == [(1,)])
        counted = {"topic": place.letters.name, "reason": "unknown_format"}
        await running.until(lambda: running.metric("chatgauge_sink_unreadable_total", **counted) == 1)


def counts(place: Place) -> list[tuple[int, int]]:
    """Offset and requests of each row of the windows."""
    return list(place.rows("SELECT offset, requests FROM windows FINAL ORDER BY since, offset"))


async def publish(place: Place, *blocks: Block | None) -> None:
    await place.send(place.windows, [None if b is None else write_block(b) for b in blocks])


async def test_windows_hold_the_newest_state_and_keep_what_expired(place: Place) -> None:
    await publish(
        place, block(offset=1), block(offset=2, closed=True), None, block(since=3, offset=4, closed=True)
    )
    async with sink(place, place.windows, window_writer) as running:
        await running.until(lambda: counts(place) == [(2, 2), (4, 4)])
        await publish(place, block(offset=2, revision=1, closed=True, rows=corrected()))
        await running.until(lambda: counts(place) == [(2, 9), (4, 4)])
        # A sink that woke late repeats an old state: it must not come back.
        await publish(place, block(offset=1, closed=True))
        name = place.windows.name
        await running.until(lambda: running.metric("chatgauge_sink_records_total", topic=name) == 6)
    assert counts(place) == [(2, 9), (4, 4)]
    assert running.metric("chatgauge_sink_tombstones_total", topic=name) == 1
    assert running.metric("chatgauge_sink_blocks_folded_total", topic=name) == 1


def corrected() -> Any:
    return rows_of("service", {("chat",): {"requests": 9}})


async def test_offsets_of_blocks_held_back_are_not_committed(place: Place) -> None:
    await publish(place, block(offset=1))
    async with sink(place, place.windows, window_writer) as running:
        await running.until(lambda: counts(place) == [(1, 1)])
        await publish(place, block(offset=2), block(offset=3), block(offset=3, grouping="total", closed=True))
        await running.until(lambda: len(counts(place)) == 2)
        await running.until(
            lambda: running.metric("chatgauge_sink_records_total", topic=place.windows.name) == 4
        )
        # Written: the first record and the last. The third, held back, is read again after a crash.
        assert counts(place) == [(1, 1), (3, 3)]
        await until_committed(place, place.windows, 2)
    # A sink that is told to stop writes what it held back.
    assert sorted(counts(place)) == [(3, 3), (3, 3)]
    assert await place.committed(place.windows) == 4
