"""Record batches to test with, as producers and brokers make them, and as nobody should."""

import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka.codec import lz4_encode, snappy_encode, zstd_encode
from aiokafka.record.util import calc_crc32c

from schemas.record_batch import HEADER
from tests.schemas.events import long

TIME_MS = 1_768_478_400_000
PACK = (bytes, partial(gzip.compress, mtime=0), snappy_encode, lz4_encode, zstd_encode)
TRANSACTIONAL, CONTROL, LOG_APPEND_TIME = 0x10, 0x20, 0x08

Headers = Sequence[tuple[bytes, bytes | None]]


@dataclass(frozen=True)
class Sent:
    """A record as it is sent."""

    value: bytes | None
    key: bytes | None = b"space-1"
    headers: Headers = ()
    delta: int | None = None
    """Of its offset; None counts on."""
    time: int | None = None
    """Milliseconds after the batch's; None counts on."""


def octets(value: bytes | None) -> bytes:
    return long(-1) if value is None else long(len(value)) + value


def record(sent: Sent, delta: int) -> bytes:
    """The bytes of a record."""
    inside = [
        b"\0",
        long(delta if sent.time is None else sent.time),
        long(delta if sent.delta is None else sent.delta),
        octets(sent.key),
        octets(sent.value),
        long(len(sent.headers)),
        *(octets(key) + octets(value) for key, value in sent.headers),
    ]
    whole = b"".join(inside)
    return long(len(whole)) + whole


def section(records: Sequence[Sent]) -> bytes:
    """The bytes of a batch's records. A delta that isn't given is the one before it and one."""
    out, delta = [], -1
    for sent in records:
        delta = delta + 1 if sent.delta is None else sent.delta
        out.append(record(sent, delta))
    return b"".join(out)


def wrap(packed: bytes, base: int, *, count: int, last: int | None = None, **header: Any) -> bytes:
    """A batch around what was packed: `last` offset, codec, flags, producer, newest (time), crc."""
    delta = count - 1 if last is None else last - base
    under_crc = struct.pack(
        ">hiqqqhii",
        header.get("codec", 0) | header.get("flags", 0),
        delta,
        TIME_MS,
        header.get("newest", TIME_MS + count),
        header.get("producer", -1),
        -1,
        -1,
        count,
    )
    crc = header.get("crc", calc_crc32c(under_crc + packed))
    length = HEADER.size - 12 + len(packed)
    return struct.pack(">qiibI", base, length, 0, header.get("magic", 2), crc) + under_crc + packed


def batch(records: Sequence[Sent | bytes], base: int = 0, *, codec: int = 0, **header: Any) -> bytes:
    """A batch of records, or of values."""
    sent = [one if isinstance(one, Sent) else Sent(one) for one in records]
    deltas = [at if one.delta is None else one.delta for at, one in enumerate(sent)]
    last = header.pop("last", base + max(deltas, default=0))
    packed = PACK[codec](section(sent))
    return wrap(packed, base, count=header.pop("count", len(sent)), last=last, codec=codec, **header)


def marker(base: int, producer: int, *, commits: bool) -> bytes:
    """The control batch that ends a transaction."""
    key = struct.pack(">hh", 0, int(commits))
    flags = TRANSACTIONAL | CONTROL
    return batch([Sent(bytes(6), key)], base, flags=flags, producer=producer)
