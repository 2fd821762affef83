"""Reads some record batches, at once: their values as columns, and what is lost of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np

from schemas.batch import Batch, Refusal
from schemas.columnar import ColumnarReader
from schemas.errors import GarbledRecordsError, Reason, UnpackError
from schemas.placing import place
from schemas.record_batch import RecordBatch
from schemas.records import KafkaRecord, read
from schemas.unpacking import unpack
from schemas.values import Positions, ValueList, ValueRuns, Values

FEW: Final = 2_000
"""Records up to which it is cheaper to make an object of each, and no call takes long."""
AT_ONCE: Final = 4 * 2**20
"""Bytes of records after which what was unpacked is read, and let go of."""
_MOST_MS: Final = (2**63 - 1) // 1_000
_LATEST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: what a header may claim that isn't to be trusted."""

_OFFSET, _TIMESTAMP = attrgetter("offset"), attrgetter("timestamp")


class Fetched(NamedTuple):
    """A batch of the `source`-th partition, of which the records from `position` on are wanted."""

    source: int
    batch: RecordBatch
    position: int


class Unpacked(NamedTuple):
    """A batch with its records, or with what it is lost by."""

    fetched: Fetched
    records: bytes | memoryview
    lost: str | None = None


@dataclass(frozen=True)
class Portion:
    """What some batches hold, record by record; what is lost of one counts as a record behind its others."""

    batch: Batch
    sources: Positions
    """Of each record: its source;"""
    offsets: Positions
    """its offset;"""
    arrived_us: Positions
    """and when it arrived, in microseconds since 1970."""


class _Lost(NamedTuple):
    offset: int
    detail: str


class _Found(NamedTuple):
    """Records: their values, and arrays of the number of their batch, their offsets and milliseconds."""

    values: Values
    batch: Positions
    offset: Positions
    timestamp: Positions


def unpacked(task: Sequence[Fetched], limit: int, at_once: int = AT_ONCE) -> Iterator[list[Unpacked]]:
    """The batches, unpacked in lots of at least `at_once` bytes, which the last batch of each makes up."""
    lot: list[Unpacked] = []
    size = 0
    for fetched in task:
        lot.append(_unpacked(fetched, limit))
        size += len(lot[-1].records)
        if size >= at_once:
            yield lot
            lot, size = [], 0
    if lot:
        yield lot


def _unpacked(fetched: Fetched, limit: int) -> Unpacked:
    batch = fetched.batch
    if batch.damage is not None:
        return Unpacked(fetched, b"", batch.damage)
    try:
        return Unpacked(fetched, unpack(batch, limit))
    except UnpackError as error:
        return Unpacked(fetched, b"", str(error))


def read_portion(reader: ColumnarReader, lot: Sequence[Unpacked], most: int = FEW) -> Portion:
    """What the batches hold, of which `most` records make few. Raises RegistryUnavailableError."""
    lost = {
        number: _lost(one.fetched, one.fetched.batch.base_offset, f"the batch {one.lost}")
        for number, one in enumerate(lot)
        if one.lost is not None
    }
    few = sum(one.fetched.batch.count for one in lot) <= most
    found, garbled = (_each if few else _together)(lot)
    for number, error in garbled.items():
        lost[number] = _lost(lot[number].fetched, error.offset, f"{error}, in the batch")
    batch = reader.read_values(found.values, found.offset)
    sources = np.array([one.fetched.source for one in lot], np.int64)
    times = np.minimum(np.maximum(found.timestamp, -_MOST_MS), _MOST_MS)
    if not lost:
        return Portion(batch, sources[found.batch], found.offset, times * 1_000)
    return _with_lost(lot, batch, found, times, lost, sources)


def _lost(fetched: Fetched, first: int, why: str) -> _Lost:
    batch = fetched.batch
    first = max(first, fetched.position)
    which = f"offset {first}" if first == batch.last_offset else f"offsets {first} to {batch.last_offset}"
    return _Lost(
        first,
        f"{which} can't be read: {why} (from offset {batch.base_offset} on, {batch.count} records)",
    )


def _each(lot: Sequence[Unpacked]) -> tuple[_Found, dict[int, GarbledRecordsError]]:
    """Record by record."""
    records: list[KafkaRecord] = []
    counts: list[int] = []
    garbled: dict[int, GarbledRecordsError] = {}
    for number, one in enumerate(lot):
        found: Sequence[KafkaRecord] = ()
        if one.lost is None:
            try:
                found = read(one.fetched.batch, one.records)
            except GarbledRecordsError as error:
                found, garbled[number] = error.read, error
        if one.fetched.position > one.fetched.batch.base_offset:
            found = [record for record in found if record.offset >= one.fetched.position]
        records.extend(found)
        counts.append(len(found))
    count = len(records)
    return _Found(
        ValueList([record.value for record in records]),
        np.repeat(np.arange(len(lot)), counts),
        np.fromiter(map(_OFFSET, records), np.int64, count),
        np.fromiter(map(_TIMESTAMP, records), np.int64, count),
    ), garbled


def _together(lot: Sequence[Unpacked]) -> tuple[_Found, dict[int, GarbledRecordsError]]:
    """All at once."""
    readable = [number for number, one in enumerate(lot) if one.lost is None]
    places, garbled = place(
        [lot[number].fetched.batch for number in readable], [lot[number].records for number in readable]
    )
    positions = np.array([lot[number].fetched.position for number in readable], np.int64)
    wanted = places.offset >= positions[places.batch]
    if not wanted.all():
        places = places.take(wanted)
    return _Found(
        ValueRuns(places.octets, places.value, places.value_end),
        np.array(readable, np.int64)[places.batch],
        places.offset,
        places.timestamp,
    ), {readable[number]: error for number, error in garbled.items()}


def _with_lost(
    lot: Sequence[Unpacked],
    batch: Batch,
    found: _Found,
    times: Positions,
    lost: dict[int, _Lost],
    sources: Positions,
) -> Portion:
    """A place for what is lost of a batch, behind its other records, and a refusal."""
    numbers = np.array(sorted(lost), np.int64)
    at_lost = np.searchsorted(found.batch, numbers, "right") + np.arange(len(numbers))
    at_found = np.arange(len(found.batch)) + np.searchsorted(numbers, found.batch, "left")
    each = np.empty((3, len(found.batch) + len(numbers)), np.int64)
    each[:, at_found] = sources[found.batch], found.offset, times
    each[:, at_lost] = (
        sources[numbers],
        [lost[number].offset for number in numbers.tolist()],
        [_claimed(lot[number].fetched.batch) for number in numbers.tolist()],
    )
    refused = [
        Refusal(int(at_found[refusal.index]), refusal.offset, refusal.reason, refusal.detail)
        for refusal in batch.refused
    ]
    refused += [
        Refusal(at, lost[number].offset, Reason.UNREADABLE_BATCH, lost[number].detail)
        for number, at in zip(numbers.tolist(), at_lost.tolist(), strict=True)
    ]
    refused.sort(key=lambda refusal: refusal.index)
    return Portion(Batch(batch.frame, at_found[batch.indices], refused), each[0], each[1], each[2] * 1_000)


def _claimed(batch: RecordBatch) -> int:
    return min(max(batch.max_timestamp, 0), _LATEST_MS)
