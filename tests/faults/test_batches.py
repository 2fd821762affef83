"""What lies on the topic beside plain records: the feeder knows, and the recount reads the same."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from clients.kafka.fetched import leave_packed
from tests.conftest import CreateTopics
from tests.faults.bombs import BATCHES, send_all
from tests.faults.expectation import UNREADABLE, recount
from tests.faults.feed import CODECS, TOPIC, Feed
from tests.faults.transactions import end_in_transactions

_PARTITIONS = 2

pytestmark = pytest.mark.timeout(300)


async def codecs(bootstrap: str, partition: int) -> set[int]:
    """Those of the batches in a partition."""
    place, found = TopicPartition(TOPIC, partition), set[int]()
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        leave_packed(consumer)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for fetched in (await consumer.getmany(timeout_ms=200)).get(place, []):
                found |= {batch.codec for batch in fetched.batches}
    return found


def test_the_recount_reads_what_the_feeder_did(fresh_kafka: str, create_topics: CreateTopics) -> None:
    create_topics(fresh_kafka, partitions=_PARTITIONS)
    with Feed(fresh_kafka, rate=200, seed=5) as feed:
        feed.burst(300)
        feed.settle()
        asyncio.run(send_all(fresh_kafka, feed, list(BATCHES), 1))
        feed.settle()
    end_in_transactions(fresh_kafka, feed)

    expected = recount(fresh_kafka, feed.unreadable)
    read = expected.places.keys() | expected.refused.keys()
    assert read == feed.places.keys() | feed.unreadable.keys()
    assert len(feed.unreadable) == len(BATCHES)
    assert {expected.refused[place] for place in feed.unreadable} == {UNREADABLE}
    assert feed.aborted
    assert feed.beside
    assert not feed.aborted & read
    assert feed.ends == {
        partition: 1 + max(offset for number, offset in read if number == partition)
        for partition in range(_PARTITIONS)
    }
    for partition in range(_PARTITIONS):
        assert len(asyncio.run(codecs(fresh_kafka, partition))) == len(CODECS)
