"""Puts the load onto a topic, in large batches, and checks that all of it arrived."""

import io

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.producer.message_accumulator import BatchBuilder
from fastavro import schemaless_writer

from bench.events import Load, outgoing
from schemas.contract import schema
from schemas.wire import single_object_header

BATCH_BYTES = 256 * 1024


class LoadError(RuntimeError):
    """The topic doesn't hold what was sent."""


async def put(bootstrap: str, topic: str, load: Load) -> float:
    """Send the load's events; returns the mean size of a value in bytes."""
    record = schema("RequestEvent")
    header = single_object_header(record.fingerprint)
    sent_bytes = sent = 0
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        batches = [producer.create_batch() for _ in range(load.partitions)]
        for message in outgoing(load):
            body = io.BytesIO()
            schemaless_writer(body, record.parsed, message.event)
            value = header + body.getvalue()
            sent_bytes += len(value)
            sent += 1
            partition = message.partition
            if batches[partition].append(key=message.key, value=value, timestamp=None) is None:
                await _send(producer, batches[partition], topic, partition)
                batches[partition] = producer.create_batch()
                batches[partition].append(key=message.key, value=value, timestamp=None)
        for partition, batch in enumerate(batches):
            await _send(producer, batch, topic, partition)
        await producer.flush()
    finally:
        await producer.stop()
    held = await length(bootstrap, topic, load.partitions)
    if held != sent:
        raise LoadError(f"{sent} events were sent to {topic}, which holds {held}")
    return sent_bytes / sent


async def _send(producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> None:
    batch.close()
    await producer.send_batch(batch, topic, partition=partition)


async def length(bootstrap: str, topic: str, partitions: int) -> int:
    """How many messages the topic holds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        all_of_it = [TopicPartition(topic, i) for i in range(partitions)]
        ends = await consumer.end_offsets(all_of_it)
        return sum(ends.values())
    finally:
        await consumer.stop()
