"""Batches of half a MiB that unpack to half a GiB, among good events: all parts go on, and stay small."""

import asyncio
import hashlib
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import zstandard
from aiokafka import AIOKafkaProducer

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from schemas.codec import Codec
from schemas.contract import schema
from tests.end_to_end.parts import Parts
from tests.schemas.batches import wrap
from tests.schemas.events import long
from tests.sinks.making import request
from tests.streams.broker import Broker, wait_until

pytestmark = pytest.mark.timeout(600)

MIB: Final = 2**20
BOMB: Final = 512 * MIB
LARGE: Final = 40 * MIB
"""Less than may be unpacked, and more than a dead letter keeps."""
GZIP, ZSTD = 1, 4
GOOD: Final = 200
MOST_GROWTH: Final = 10 * 64 * MIB
"""By which a process may grow: some copies of what may be unpacked. One of a bomb and its copy are more."""
PARTITIONS: Final = 2


def test_everybody_goes_on_and_the_good_events_are_all_there(
    fresh_kafka: str,
    create_topics: Callable[..., None],
    database: ClickHouseSettings,
    tmp_path: Path,
) -> None:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    broker = Broker(fresh_kafka)
    parts = Parts.of(tmp_path, fresh_kafka, PARTITIONS, database)
    with parts.worker("rollup") as rollup, parts.worker("usage") as usage, parts.sink() as sink:
        processes = (rollup, usage, sink)
        send_good(broker, 0)
        settle(broker)
        before = [peak(process) for process in processes]

        send_batch(broker, packed_gzip(BOMB))
        send_good(broker, GOOD)
        send_batch(broker, packed_zstd(BOMB))
        send_batch(broker, packed_zstd(LARGE))
        send_good(broker, 2 * GOOD)
        settle(broker)
        broker.wait_until_acknowledged("chatgauge-sink-chat.dead-letters", "chat.dead-letters")

        grown = [peak(process) - was for process, was in zip(processes, before, strict=True)]
        assert [process.poll() for process in processes] == [None] * 3
    assert max(grown) < MOST_GROWTH

    with connect(database) as client:
        assert client.query("SELECT count(), uniqExact(event_id) FROM events").result_rows == [
            (3 * GOOD, 3 * GOOD)
        ]
        for view in ("requests_total_per_minute", "requests_by_user"):
            assert client.query(f"SELECT sum(requests) FROM {view}").result_rows == [(3 * GOOD,)], view
        letters = client.query(
            "SELECT offset, reason, length(value), detail FROM dead_letters FINAL ORDER BY offset"
        ).result_rows
    half = GOOD // PARTITIONS
    assert [row[:3] for row in letters] == [
        (half, "unreadable_batch", None),
        (2 * half + 1, "unreadable_batch", None),
        (2 * half + 2, "unknown_schema", 64 * 1024),
    ]
    assert letters[0][3] == (
        f"offset {half} can't be read: the batch unpacks to more than 64 MiB "
        f"(from offset {half} on, 1 records)"
    )
    digest = hashlib.sha256(bytes(LARGE)).hexdigest()
    assert letters[2][3].endswith(
        f"; the value has {LARGE} bytes, SHA-256 {digest}, of which the first 64 KiB are kept"
    )


def send_good(broker: Broker, first: int) -> None:
    """Requests of now, in both partitions."""
    codec = Codec(schema("RequestEvent"))
    now = time.time_ns() // 1_000
    values = [
        codec.encode(request(number, occurred_at=now, user_id=f"user-{number % 7}"))
        for number in range(first, first + GOOD)
    ]
    half = GOOD // PARTITIONS
    broker.send("chat.requests", {0: values[:half], 1: values[half:]})


def send_batch(broker: Broker, wire: bytes) -> None:
    """A batch as it is, to the first partition."""
    assert len(wire) < MIB

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
            batch = producer.create_batch()
            batch.append(key=b"k", value=b"", timestamp=None)
            batch.close()
            batch._buffer = bytearray(wire)
            await (await producer.send_batch(batch, "chat.requests", partition=0))

    asyncio.run(send())


def pieces(size: int) -> Iterator[bytes]:
    """A record whose value is as many zeros."""
    head = b"\0" + long(0) + long(0) + long(1) + b"k" + long(size)
    yield long(len(head) + size + 1) + head
    for _ in range(size // MIB):
        yield bytes(MIB)
    yield long(0)


def packed_gzip(size: int) -> bytes:
    packing = zlib.compressobj(6, wbits=16 + zlib.MAX_WBITS)
    return wrap(b"".join([*map(packing.compress, pieces(size)), packing.flush()]), 0, count=1, codec=GZIP)


def packed_zstd(size: int) -> bytes:
    packing = zstandard.ZstdCompressor().compressobj()
    return wrap(b"".join([*map(packing.compress, pieces(size)), packing.flush()]), 0, count=1, codec=ZSTD)


def settle(broker: Broker) -> None:
    """Return when all parts have read everything, and ClickHouse has what came of it."""
    for group in ("rollup", "usage", "sink-chat.requests"):
        broker.wait_until_acknowledged(f"chatgauge-{group}", "chat.requests")
    for topic in ("chat.windows", "chat.usage"):
        wait_until(f"{topic} has something", partial(has_records, broker, topic))
        broker.wait_until_acknowledged(f"chatgauge-sink-{topic}", topic)


def has_records(broker: Broker, topic: str) -> bool:
    return sum(broker.ends(topic).values()) > 0


def peak(process: "subprocess.Popen[str]") -> int:
    """The most memory that it ever had, in bytes."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
