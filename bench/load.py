"""Puts the load onto a topic, in large batches, and checks that all of it arrived."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder

from bench.events import Events, Load, closing, made
from traffic.avro import ColumnWriter

BATCH_BYTES = 256 * 1024
_AT_ONCE = 100_000
"""Events that are written together."""


class LoadError(RuntimeError):
    """The topic doesn't hold what was sent."""


@dataclass(frozen=True)
class Cargo:
    """A load as it goes over the wire: full batches of each partition, in order."""

    batches: dict[int, list[BatchBuilder]]
    messages: int
    value_bytes: float
    """The mean size of a value."""


def packed(load: Load, *, closed: bool = True) -> Cargo:
    """The load's events and, where wanted, its closing ones, encoded. Can be shipped once."""
    batches: dict[int, list[BatchBuilder]] = {i: [_batch()] for i in range(load.partitions)}
    size = messages = 0
    for events in (made(load), closing(load)) if closed else (made(load),):
        for part in _parts(events):
            size += _pack(part, batches)
            messages += len(part.frame)
    return Cargo(batches, messages, size / messages)


def _parts(events: Events) -> list[Events]:
    edges = [*range(0, len(events.frame), _AT_ONCE), len(events.frame)]
    return [Events(events.frame[low:high], events.partition[low:high]) for low, high in pairwise(edges)]


def _pack(events: Events, into: dict[int, list[BatchBuilder]]) -> int:
    values = ColumnWriter("RequestEvent").values(events.frame)
    keys = events.frame["space_id"].to_list() if "space_id" in events.frame.columns else None
    for i, (partition, value) in enumerate(zip(events.partition.tolist(), values, strict=True)):
        key = b"closing" if keys is None else keys[i].encode()
        batches = into[partition]
        if batches[-1].append(key=key, value=value, timestamp=None) is None:
            batches.append(_batch())
            batches[-1].append(key=key, value=value, timestamp=None)
    return sum(map(len, values))


def _batch() -> BatchBuilder:
    return BatchBuilder(BATCH_BYTES, 0)


async def ship(bootstrap: str, topic: str, cargo: Cargo) -> None:
    """Send it all, the partitions side by side."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()

    async def send(partition: int) -> None:
        for batch in cargo.batches[partition]:
            batch.close()
            await producer.send_batch(batch, topic, partition=partition)

    try:
        await asyncio.gather(*map(send, cargo.batches))
        await producer.flush()
    finally:
        await producer.stop()


async def put(bootstrap: str, topic: str, load: Load) -> float:
    """Fill an empty topic; returns the mean size of a value in bytes.

    Raises LoadError when the topic then holds anything else.
    """
    cargo = packed(load)
    await ship(bootstrap, topic, cargo)
    held = await length(bootstrap, topic, load.partitions)
    if held != cargo.messages:
        raise LoadError(f"{cargo.messages} events were sent to {topic}, which holds {held}")
    return cargo.value_bytes


async def append(bootstrap: str, topic: str, load: Load) -> None:
    """Add events to a topic, without closing ones: live traffic, whose windows stay open."""
    await ship(bootstrap, topic, packed(load, closed=False))


async def length(bootstrap: str, topic: str, partitions: int) -> int:
    """How many messages the topic holds."""
    return sum((await ends(bootstrap, topic, partitions)).values())


async def ends(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition ends."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, i) for i in range(partitions)]
        return {part.partition: end for part, end in (await consumer.end_offsets(parts)).items()}
    finally:
        await consumer.stop()
