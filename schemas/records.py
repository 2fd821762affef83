"""The records of an unpacked batch, one by one: for few of them, and for a batch that is garbled.

A batch is garbled from a record on when that record's lengths don't add up, or its offset is not behind
the one before it and within the batch. What comes before that record is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, lt
from typing import Final, Protocol

from aiokafka.record.default_records import DefaultRecordBatch

from schemas.errors import GarbledRecordsError, UnpackError
from schemas.record_batch import ATTRIBUTES_AT, CODEC_MASK, HEADER, RecordBatch
from schemas.unpacking import MOST_BYTES, unpack

_OFFSET: Final = attrgetter("offset")
_LONGEST_VARINT: Final = 10
_MASK: Final = 2**64 - 1
_SIGN: Final = 2**63


class KafkaRecord(Protocol):
    """What is read of a record; `timestamp` in milliseconds. Its headers are not looked at."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Record:
    """A record, read here."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: positions in the unpacked records. A null ends before it begins."""

    offset: int
    timestamp: int
    key: tuple[int, int]
    value: tuple[int, int]


def records(batch: RecordBatch, limit: int = MOST_BYTES) -> Sequence[KafkaRecord]:
    """The batch's records. Raises UnpackError, or GarbledRecordsError, which has those that were read."""
    return read(batch, unpack(batch, limit))


def readable(
    batches: Iterable[RecordBatch],
    position: int,
    unreadable: Callable[[RecordBatch, str], None],
    limit: int = MOST_BYTES,
) -> Iterator[KafkaRecord]:
    """The records of the batches from `position` on, one batch unpacked at a time.

    `unreadable` is told of each batch that can't be read, or not to its end, and why.
    """
    for batch in batches:
        found: Sequence[KafkaRecord] = ()
        try:
            if batch.damage is None:
                found = records(batch, limit)
            else:
                unreadable(batch, batch.damage)
        except UnpackError as error:
            unreadable(batch, str(error))
        except GarbledRecordsError as error:
            found = error.read
            unreadable(batch, f"is garbled from offset {error.offset} on: {error}")
        for record in found:
            if record.offset >= position:
                yield record


def read(batch: RecordBatch, unpacked: bytes | memoryview) -> Sequence[KafkaRecord]:
    """The same, of a batch that has been unpacked."""
    found = _compiled(batch, unpacked)
    if found is not None:
        return found
    places, garbled = walk(batch, unpacked)
    mine = [
        Record(place.offset, place.timestamp, cut(unpacked, *place.key), cut(unpacked, *place.value))
        for place in places
    ]
    if garbled is not None:
        raise GarbledRecordsError(garbled.offset, str(garbled), mine)
    return mine


def cut(octets: bytes | memoryview, begin: int, end: int) -> bytes | None:
    """These bytes; None where they end before they begin."""
    return bytes(octets[begin:end]) if end >= begin else None


def walk(batch: RecordBatch, unpacked: bytes | memoryview) -> tuple[list[Place], GarbledRecordsError | None]:
    """Where the records lie, and what is wrong behind them."""
    places: list[Place] = []
    try:
        for place in _placed(batch, unpacked):
            places.append(place)  # noqa: PERF402 - so that those before an error are kept
    except _GarbledError as error:
        first = places[-1].offset + 1 if places else batch.base_offset
        if first > batch.last_offset:
            # Something is left though no offset is. Whose it is can't be told: the last record goes too.
            first = places.pop().offset
        return places, GarbledRecordsError(first, str(error), ())
    return places, None


class _GarbledError(Exception):
    """What is wrong with a record."""


def _placed(batch: RecordBatch, octets: bytes | memoryview) -> Iterator[Place]:
    at, newest = 0, batch.base_offset - 1
    for number in range(batch.count):
        try:
            place, at = _place(batch, octets, at)
        except IndexError:
            raise _GarbledError(f"record {number + 1} of {batch.count} is cut off") from None
        except ValueError as error:
            raise _GarbledError(f"record {number + 1} of {batch.count} {error}") from None
        if not newest < place.offset <= batch.last_offset:
            raise _GarbledError(
                f"record {number + 1} of {batch.count} says that it is at offset {place.offset}"
            )
        newest = place.offset
        yield place
    if at != len(octets):
        raise _GarbledError(f"{len(octets) - at} bytes follow record {batch.count} of {batch.count}")


def _place(batch: RecordBatch, octets: bytes | memoryview, at: int) -> tuple[Place, int]:
    """The record at `at`, and where it ends. Raises IndexError where the bytes end, and ValueError."""
    length, at = _varint(octets, at)
    end = at + length
    if length < 0 or end > len(octets):
        raise ValueError(f"has a length of {length}, and {len(octets) - at} bytes are left")
    since, at = _varint(octets, at + 1)
    delta, at = _varint(octets, at)
    key = _run(octets, at)
    value = _run(octets, max(key))
    at = max(value)
    headers, at = _varint(octets, at)
    if headers < 0:
        raise ValueError(f"has {headers} headers")
    while headers and at <= end:
        at = max(_run(octets, max(_run(octets, at))))
        headers -= 1
    if at != end or headers:
        raise ValueError(f"has a length of {length}, which is not that of what it holds")
    time = batch.base_timestamp + since if batch.append_time is None else batch.append_time
    time = (time & _MASK ^ _SIGN) - _SIGN  # of 64 bits, as everywhere else
    return Place(batch.base_offset + delta, time, key, value), end


def _run(octets: bytes | memoryview, at: int) -> tuple[int, int]:
    """Where bytes with their length before them begin and end; a null ends one before it begins."""
    length, begin = _varint(octets, at)
    return begin, begin + max(length, -1)


def _varint(octets: bytes | memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = octets[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            number &= _MASK
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift >= 7 * _LONGEST_VARINT:
            raise ValueError("has a number of more than 64 bits")


def _compiled(batch: RecordBatch, unpacked: bytes | memoryview) -> Sequence[KafkaRecord] | None:
    """As aiokafka reads them, which is compiled; None when it can't, or when offsets are out of order."""
    header = bytearray(batch.wire[: HEADER.size])
    header[ATTRIBUTES_AT + 1] &= ~CODEC_MASK
    try:
        found: list[KafkaRecord] = list(DefaultRecordBatch(b"".join((header, unpacked))))
    except Exception:
        # Its own error, or whatever a header's text that isn't UTF-8 raises: that is looked at here.
        return None
    offsets = list(map(_OFFSET, found))
    if offsets and (offsets[0] < batch.base_offset or offsets[-1] > batch.last_offset):
        return None
    return found if all(map(lt, offsets, offsets[1:])) else None
