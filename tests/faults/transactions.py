"""Transactions on chat.requests: what is committed counts, what is aborted never was.

The feeder knows which is which. The recount reads with `read_committed`, by a plain consumer.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiokafka import AIOKafkaProducer

from tests.faults.feed import CODECS, TOPIC, Feed, Sent
from tests.faults.mix import Message
from tests.faults.registry import fault
from tests.faults.scene import Course, Scene
from tests.faults.schedule import EVERYTHING

KIND: Final = "transactions"
_RECORDS: Final = 40


@fault(KIND, (*EVERYTHING, "input"))
def _(scene: Scene) -> Course:
    """Transactions that are committed and aborted, and some that stay open for seconds."""
    bootstrap, feed, seconds = scene.stack.kafka.bootstrap, scene.feed, scene.fault.seconds
    yield from scene.beside("transactions are made", lambda: asyncio.run(_ended(bootstrap, feed, 4)))
    yield from scene.going_on()
    yield from scene.beside(
        f"transactions are open for {seconds:.1f} s",
        lambda: asyncio.run(_open(bootstrap, feed, seconds)),
        seconds + 60,
    )
    yield from scene.recovered()


def end_in_transactions(bootstrap: str, feed: Feed) -> None:
    """One that is committed, and then one that is aborted, at the end of every partition."""
    asyncio.run(_ended(bootstrap, feed, 2))


async def _ended(bootstrap: str, feed: Feed, count: int) -> None:
    """One after the other over all partitions: committed, aborted, committed, …"""
    for number in range(count):
        codec = CODECS[number % len(CODECS)]
        async with AIOKafkaProducer(
            bootstrap_servers=bootstrap, transactional_id="feed", compression_type=codec
        ) as producer:
            await _transact(producer, feed, commits=number % 2 == 0)


async def _open(bootstrap: str, feed: Feed, seconds: float) -> None:
    """Two at the same time, with the feed's own records behind them."""
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="feed-commits") as committing,
        AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="feed-aborts") as aborting,
    ):
        await asyncio.gather(
            _transact(committing, feed, commits=True, seconds=seconds),
            _transact(aborting, feed, commits=False, seconds=seconds / 2),
        )


async def _transact(producer: AIOKafkaProducer, feed: Feed, *, commits: bool, seconds: float = 0) -> None:
    """One transaction with records in every partition, open for so long once they are there."""
    await producer.begin_transaction()
    sent = await _send(producer, feed.messages(_RECORDS, "finished"))
    await asyncio.sleep(seconds)  # the fault itself: it holds back what lies behind it
    if commits:
        await producer.commit_transaction()
        feed.add(sent)
    else:
        await producer.abort_transaction()
        feed.aborted.update((one.partition, one.offset) for one in sent)


async def _send(producer: AIOKafkaProducer, messages: Sequence[Message]) -> list[Sent]:
    partitions = sorted(await producer.partitions_for(TOPIC))
    futures = [
        await producer.send(TOPIC, message.value, message.key, partition=partitions[number % len(partitions)])
        for number, message in enumerate(messages)
    ]
    places = await asyncio.gather(*futures)
    return [
        Sent(TOPIC, place.partition, place.offset, message.kind, message.event_id)
        for message, place in zip(messages, places, strict=True)
    ]
