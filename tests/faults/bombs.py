"""Batches that Kafka takes and nobody can read: each is one dead letter, at its first offset.

Bombs unpack to hundreds of times their size, as far as they are unpacked. The others end in what is no part
of their stream: Kafka's broker looks no further than the records.
"""

import asyncio
import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

import lz4.frame
import zstandard
from aiokafka import AIOKafkaProducer

from tests.faults.feed import TOPIC, Feed
from tests.faults.registry import fault
from tests.faults.scene import Course, Scene
from tests.faults.schedule import EVERYTHING
from tests.schemas.batches import Sent as Record
from tests.schemas.batches import section, wrap
from tests.schemas.events import long

MIB: Final = 2**20
_BOMB: Final = 300 * MIB
_RECORDS: Final = 5
_GZIP, _LZ4, _ZSTD = 1, 3, 4
_TRAILER: Final = b"this is no stream"


class _Packing(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _zeros() -> Iterator[bytes]:
    """A record whose value is `_BOMB` zeros."""
    head = b"\0" + long(0) + long(0) + long(1) + b"k" + long(_BOMB)
    yield long(len(head) + _BOMB + 1) + head
    for _ in range(_BOMB // MIB):
        yield bytes(MIB)
    yield long(0)


def _bomb(packing: _Packing, codec: int) -> bytes:
    packed = b"".join([*map(packing.compress, _zeros()), packing.flush()])
    return wrap(packed, 0, count=1, codec=codec)


def _torn(packed: bytes, codec: int) -> bytes:
    return wrap(packed + _TRAILER, 0, count=_RECORDS, codec=codec)


def _records() -> bytes:
    return section([Record(b"event %d" % number) for number in range(_RECORDS)])


def _gzip() -> _Packing:
    return zlib.compressobj(6, wbits=16 + zlib.MAX_WBITS)


def _gzipped(octets: bytes) -> bytes:
    packing = _gzip()
    return packing.compress(octets) + packing.flush()


BATCHES: Final[Mapping[str, tuple[int, Callable[[], bytes]]]] = {
    "a gzip bomb": (1, lambda: _bomb(_gzip(), _GZIP)),
    "a zstd bomb": (1, lambda: _bomb(zstandard.ZstdCompressor().compressobj(), _ZSTD)),
    "gzip with something behind it": (_RECORDS, lambda: _torn(_gzipped(_records()), _GZIP)),
    "lz4 with something behind it": (_RECORDS, lambda: _torn(lz4.frame.compress(_records()), _LZ4)),
}
"""How many offsets a batch takes, and what makes it."""


@functools.cache
def made(name: str) -> bytes:
    """One of the `BATCHES`, as a producer sends it."""
    return BATCHES[name][1]()


@fault("bombs", (*EVERYTHING, "input"))
def _(scene: Scene) -> Course:
    """Batches that unpack to hundreds of MB, and batches that are none inside, among good ones."""
    bootstrap, feed = scene.stack.kafka.bootstrap, scene.feed
    partition = scene.chance.randrange(4)
    names = scene.chance.sample(list(BATCHES), len(BATCHES))
    yield from scene.beside(
        "the batches are sent", lambda: asyncio.run(send_all(bootstrap, feed, names, partition))
    )
    scene.notes.append(", ".join(f"{name} of {len(made(name)):,} bytes" for name in names))
    yield from scene.recovered()


async def send_all(bootstrap: str, feed: Feed, names: Sequence[str], partition: int) -> None:
    """All of them to one partition, with good records between them."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, request_timeout_ms=40_000) as producer:
        for name in names:
            feed.burst(100)
            offset = await send_as_it_is(producer, made(name), partition)
            feed.unreadable[partition, offset] = BATCHES[name][0]


async def send_as_it_is(producer: AIOKafkaProducer, wire: bytes, partition: int) -> int:
    """Send a batch that aiokafka would not make; its first offset."""
    batch = producer.create_batch()
    batch.append(key=b"k", value=b"", timestamp=None)
    batch.close()
    batch._buffer = bytearray(wire)
    sent = await (await producer.send_batch(batch, TOPIC, partition=partition))
    return int(sent.offset)
