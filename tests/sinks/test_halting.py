"""When nearly everything is bad, the sink stops and says so, instead of dead-lettering it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from sinks import events
from sinks.consumer import group_of
from sinks.dlq_limit import DlqLimit
from sinks.metrics import SinkMetrics
from sinks.records import RecordWriter
from sinks.writer import Writer
from streams.counting.pricing import PriceList
from tests.sinks.at_work import Place, letter_writer, sink, stored, until_committed
from tests.sinks.making import NOON, encoded, request

STRICT = DlqLimit(share=0.5, window=100)
LENIENT = DlqLimit(share=1.0, window=100)
FEW, MANY = 9, 300
"""Bad records: fewer than are judged, and enough to halt."""


def judging(limit: DlqLimit) -> Callable[[Place, SinkMetrics], Writer]:
    def make(place: Place, metrics: SinkMetrics) -> Writer:
        return events.writer(lambda: NOON, PriceList(), topic=place.requests, limit=limit)

    return make


def of_another_version(place: Place, metrics: SinkMetrics) -> Writer:
    """Takes the topic's records for something else, as a version does that is too old for them."""
    return RecordWriter(replace(place.requests, record="Sample"), "events", lambda: NOON, limit=STRICT)


async def sent_letters(place: Place) -> int:
    tp = TopicPartition(place.letters.name, 0)
    async with AIOKafkaConsumer(bootstrap_servers=place.bootstrap) as consumer:
        return int((await consumer.end_offsets([tp]))[tp])


async def note(place: Place) -> str:
    """What the group says beside its commit of partition 0."""
    admin = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group_of(place.requests))
    finally:
        await admin.close()
    return str(offsets[TopicPartition(place.requests.name, 0)].metadata)


async def test_a_version_that_knows_none_of_it_halts_and_one_that_does_goes_on_with_all_of_it(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    topic = place.requests.name
    await place.send(place.requests, [encoded(request(n)) for n in range(MANY)])
    async with sink(place, place.requests, of_another_version) as running:
        await running.until(lambda: running.metric("chatgauge_sink_halted", topic=topic, partition="0") == 1)
        await until_committed(place, place.requests, 0)
    assert (await note(place)).startswith("halted: 10 of the last 10 records of partition 0 can't be taken (")
    assert "CHATGAUGE_SINK_DEAD_LETTER_SHARE" in caplog.text
    assert await sent_letters(place) == 0
    async with sink(place, place.requests, judging(STRICT)) as running:
        await running.until(lambda: len(stored(place)) == MANY)
        await until_committed(place, place.requests, MANY)
    assert stored(place) == list(range(MANY))
    assert await note(place) == ""


async def test_a_few_are_dead_letters_most_of_many_are_not_until_that_is_allowed(place: Place) -> None:
    topic = place.requests.name
    await place.send(place.requests, [b"bad"] * FEW)
    async with sink(place, place.requests, judging(STRICT)) as running:
        await until_committed(place, place.requests, FEW)
        await place.send(place.requests, [b"worse"] * MANY)
        await place.send(place.requests, [encoded(request(0))], partition=1)
        await running.until(lambda: running.metric("chatgauge_sink_halted", topic=topic, partition="0") == 1)
        # The other partition goes on.
        await until_committed(place, place.requests, 1, partition=1)
        assert await place.committed(place.requests) == FEW
    assert await sent_letters(place) == FEW
    async with (
        sink(place, place.requests, judging(LENIENT), without_commits=True),
        sink(place, place.letters, letter_writer) as letters,
    ):
        await letters.until(lambda: place.rows("SELECT count() FROM dead_letters FINAL") == [(FEW + MANY,)])
    # Killed before it could commit, the next one sends them again.
    async with (
        sink(place, place.requests, judging(LENIENT)),
        sink(place, place.letters, letter_writer) as letters,
    ):
        await until_committed(place, place.requests, FEW + MANY)
        sent = await sent_letters(place)
        assert sent == FEW + 2 * MANY
        await until_committed(place, place.letters, sent)
    query = "SELECT uniqExact(offset), count(), max(offset) FROM dead_letters FINAL"
    assert place.rows(query) == [(FEW + MANY, FEW + MANY, FEW + MANY - 1)]
