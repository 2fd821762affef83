"""Kafka's record batches (format 2) as they are fetched, not unpacked: cut apart, checked, sorted out.

The layout is that of https://kafka.apache.org/documentation/#recordbatch.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from aiokafka.record.util import calc_crc32c

HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Base offset, length, leader epoch, magic, CRC, attributes, last offset delta, base and max timestamp,
producer id, producer epoch, base sequence, count."""
CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
CODEC_MASK: Final = 0x07
ATTRIBUTES_AT: Final = 21
"""Of a header; from here on it is under the CRC."""
_MOST_OFFSET: Final = 2**62
_LENGTH_FROM: Final = 12
"""The length counts from behind itself."""
_MAGIC_AT: Final = 16
BASE_TIMESTAMP_AT: Final = 27
MAX_TIMESTAMP_AT: Final = 35
_PRODUCER_ID_AT: Final = 43
_LONG: Final = struct.Struct(">q")
LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_LEGACY: Final = (0, 1)
_COMMIT_MARKER: Final = b"\x00\x01"
"""How the type of a control record ends its key."""

Aborted = Sequence[tuple[int, int]]
"""Of a fetch response: the producer and the first offset of each aborted transaction."""


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """A batch, by its header. `count` is what the header says: nothing has been unpacked yet."""

    wire: memoryview
    """The whole batch."""
    base_offset: int
    last_offset: int
    count: int
    attributes: int
    damage: str | None = None
    """Why nothing in it can be read; its offsets are then those that are plausible."""

    @property
    def codec(self) -> int:
        """An index of CODECS; or 5 to 7, which are none."""
        return self.attributes & CODEC_MASK

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def append_time(self) -> int | None:
        """When the broker took it, in milliseconds, if that is its records' time (LogAppendTime)."""
        return self.max_timestamp if self.attributes & LOG_APPEND_TIME else None

    @property
    def base_timestamp(self) -> int:
        """Milliseconds, from which the records' own times count otherwise."""
        return self._long(BASE_TIMESTAMP_AT)

    @property
    def max_timestamp(self) -> int:
        """Milliseconds."""
        return self._long(MAX_TIMESTAMP_AT)

    @property
    def producer_id(self) -> int:
        """-1 without one."""
        return self._long(_PRODUCER_ID_AT)

    @property
    def packed(self) -> memoryview:
        """The records, as they were sent: compressed with `codec`."""
        return self.wire[HEADER.size :]

    @property
    def next_offset(self) -> int:
        """Where to go on behind it."""
        return self.last_offset + 1

    @property
    def offsets(self) -> str:
        """In words."""
        if self.base_offset == self.last_offset:
            return f"offset {self.base_offset}"
        return f"offsets {self.base_offset} to {self.last_offset}"

    def _long(self, at: int) -> int:
        if len(self.wire) < HEADER.size:
            return -1
        number: int = _LONG.unpack_from(self.wire, at)[0]
        return number


def split(fetched: bytes | memoryview) -> Iterator[RecordBatch]:
    """The batches of one partition's fetch, in order; one that the fetch has cut off ends it.

    A batch that is damaged (its CRC is wrong, its header contradicts itself, its format is older than
    Kafka 0.11) comes with `damage`, and the next one after it; unless all its offsets are those of others.
    Offsets ascend without overlapping: a batch ends where the next intact one begins, whatever its header
    says, since it is the broker that says where a batch begins. Nothing is raised.
    """
    found = list(_cut(memoryview(fetched)))
    newest = -1
    for batch, end in zip(found, _ends(found), strict=True):
        first, last = batch.base_offset, batch.last_offset
        if batch.damage is not None:
            first = max(first, newest + 1)
            last = max(first, last) if end is None else end - 1
        elif end is not None:
            last = min(last, end - 1)
        if first <= last or batch.damage is None:
            newest = last
            moved = (first, last) != (batch.base_offset, batch.last_offset)
            yield replace(batch, base_offset=first, last_offset=last) if moved else batch


def _ends(batches: Sequence[RecordBatch]) -> list[int | None]:
    """For each batch, where the next intact one begins."""
    ends: list[int | None] = []
    end = None
    for batch in reversed(batches):
        ends.append(end)
        if batch.damage is None:
            end = batch.base_offset
    return ends[::-1]


def _cut(whole: memoryview) -> Iterator[RecordBatch]:
    """Batch by batch. Intact ones begin one after the other."""
    at, expected = 0, 0
    while at + _MAGIC_AT < len(whole):
        (length,) = struct.unpack_from(">i", whole, at + 8)
        end = at + _LENGTH_FROM + length
        if end > len(whole):
            return
        if end <= at + _MAGIC_AT:
            yield _damaged(
                whole[at:], expected, f"has a length of {length} bytes, so that its end isn't known"
            )
            return
        batch = _read(whole[at:end], expected)
        yield batch
        at, expected = end, batch.base_offset + 1 if batch.damage is None else expected


def committed(batches: Iterable[RecordBatch], aborted: Aborted = ()) -> Iterator[RecordBatch]:
    """Without the batches of transactions that were aborted, and without the markers that end them.

    `aborted` is what the fetch response says of the partition, when it was asked for committed records.
    """
    waiting = sorted(aborted, key=lambda transaction: transaction[1], reverse=True)
    aborting: set[int] = set()
    for batch in batches:
        while waiting and waiting[-1][1] <= batch.base_offset:
            aborting.add(waiting.pop()[0])
        if batch.is_control:
            if not _commits(batch):
                aborting.discard(batch.producer_id)
        elif not (batch.is_transactional and batch.producer_id in aborting):
            yield batch


def _commits(control: RecordBatch) -> bool:
    # The key is the version and the type, 2 bytes each; it lies behind the record's length, attributes,
    # two deltas and its own length, of a byte each.
    return control.damage is None and bytes(control.packed[7:9]) == _COMMIT_MARKER


def _read(wire: memoryview, expected: int) -> RecordBatch:
    """The batch that is all of `wire`, whose offsets must not be below `expected`."""
    magic = wire[_MAGIC_AT]
    if magic in _LEGACY:
        return _damaged(wire, expected, f"is in format {magic}, older than Kafka 0.11")
    if magic != 2:
        return _damaged(wire, expected, f"is in an unknown format, {magic}")
    if len(wire) < HEADER.size:
        return _damaged(wire, expected, f"ends inside its header: {len(wire)} bytes")
    base, _, _, _, crc, attributes, delta, _, _, _, _, _, count = HEADER.unpack_from(wire)
    if not expected <= base <= _MOST_OFFSET:
        return _damaged(wire, expected, f"begins at offset {base}, not behind the batch before it")
    if not 0 <= count <= delta + 1:
        return _damaged(wire, expected, f"counts {count} records up to {delta} behind its first offset")
    if calc_crc32c(wire[ATTRIBUTES_AT:]) != crc:
        # What is damaged may be anything, so it isn't taken for a marker or for part of a transaction.
        return RecordBatch(wire, base, base + delta, count, 0, "has a wrong checksum (CRC-32C)")
    return RecordBatch(wire, base, base + delta, count, attributes)


def _damaged(wire: memoryview, expected: int, damage: str) -> RecordBatch:
    """All formats begin with the offset, which is taken if it can be."""
    (base,) = struct.unpack_from(">q", wire)
    if not expected <= base <= _MOST_OFFSET:
        base = expected
    return RecordBatch(wire, base, base, 0, 0, damage)
