"""Where the records of unpacked batches lie, for many of them at once: arrays instead of objects.

Kafka's record begins with its length, as Avro's `bytes` do. So Polars reads the lengths of all records
as one column, and what stands at the positions that follow from them is worked out for all at once.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import avro_block
from schemas.errors import GarbledRecordsError
from schemas.record_batch import (
    ATTRIBUTES_AT,
    BASE_TIMESTAMP_AT,
    HEADER,
    LOG_APPEND_TIME,
    MAX_TIMESTAMP_AT,
    RecordBatch,
)
from schemas.records import Place, Record, cut, walk

Positions = npt.NDArray[np.int64]
_PADDING: Final = bytes(16)
"""Behind the records, so that a number can be looked at wherever one may begin."""
_MOST_HEADERS: Final = 32
"""Of a record; a batch with more is walked through."""
_WALKED: Final = 200
"""Records that are walked through rather than looked at in smaller parts."""
_NOTHING: Final = (np.empty(0, np.int64),) * 3
_HEADER: Final = np.dtype(
    {
        "names": ["attributes", "first", "newest"],
        "formats": [">i2", ">i8", ">i8"],
        "offsets": [ATTRIBUTES_AT, BASE_TIMESTAMP_AT, MAX_TIMESTAMP_AT],
        "itemsize": HEADER.size,
    }
)
_PROLOGUE: Final = avro_block.prologue([{"name": "record", "type": "bytes"}])


@dataclass(frozen=True)
class Places:
    """Of each record: its batch, and positions in `octets`. A null ends before it begins."""

    octets: bytes
    batch: Positions
    """An index into the batches that were asked about."""
    offset: Positions
    timestamp: Positions
    """Milliseconds."""
    key: Positions
    key_end: Positions
    value: Positions
    value_end: Positions

    def take(self, which: npt.NDArray[np.bool_] | Positions) -> "Places":
        """Those of these records."""
        return replace(self, **{name: getattr(self, name)[which] for name in _COLUMNS})

    def at(self, offset: int) -> int:
        """Which record has that offset, if they are all of one batch; -1 if none has."""
        at = int(np.searchsorted(self.offset, offset))
        return at if at < len(self.offset) and self.offset[at] == offset else -1

    def record(self, at: int) -> Record:
        """The record itself."""
        return Record(
            int(self.offset[at]),
            int(self.timestamp[at]),
            cut(self.octets, int(self.key[at]), int(self.key_end[at])),
            cut(self.octets, int(self.value[at]), int(self.value_end[at])),
        )


_COLUMNS: Final = ("batch", "offset", "timestamp", "key", "key_end", "value", "value_end")


def place(
    batches: Sequence[RecordBatch], unpacked: Sequence[bytes | memoryview]
) -> tuple[Places, dict[int, GarbledRecordsError]]:
    """The records of all batches, in order, and what is garbled of which batch."""
    octets = b"".join([*unpacked, _PADDING])
    ends = np.cumsum([len(records) for records in unpacked], dtype=np.int64)
    begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    counts = np.array([batch.count for batch in batches], np.int64)
    framed, odd = _frames(octets, begins, ends, counts)
    places, bad = _laid_out(octets, batches, *framed)
    if bad.any():
        odd += np.unique(places.batch[bad]).tolist()
    if not odd:
        return places, {}
    walked, errors = _walked(octets, batches, unpacked, begins, odd)
    return _together(places.take(~np.isin(places.batch, odd)), walked), errors


def _frames(
    octets: bytes, begins: Positions, ends: Positions, counts: Positions
) -> tuple[tuple[Positions, Positions, Positions], list[int]]:
    """Of each record its batch, where it begins behind its length, and where it ends; and the batches that
    aren't as long as their records are, with others beside them if they are small."""
    found: list[tuple[Positions, Positions, Positions]] = [_NOTHING]
    odd: list[int] = []
    pending = [(0, len(counts))]
    while pending:
        first, last = pending.pop()
        size = int(counts[first:last].sum())
        bounds = _framed(octets, int(begins[first]), ends[first:last], counts[first:last]) if size else None
        if bounds is not None:
            found.append((np.repeat(np.arange(first, last), counts[first:last]), *bounds))
        elif last - first < 2 or size <= _WALKED:
            odd += range(first, last)
        else:
            middle = (first + last) // 2
            pending += [(middle, last), (first, middle)]
    batch, start, end = (np.concatenate(column) for column in zip(*found, strict=True))
    return (batch, start, end), odd


def _framed(
    octets: bytes, begin: int, section_ends: Positions, counts: Positions
) -> tuple[Positions, Positions] | None:
    """Where each record of these batches begins, behind its length, and ends.

    None unless every batch is as long as its records are. That what Polars read are the lengths of the
    records is shown by induction: the first stands where the first record begins; where that ends, the
    second stands, with all its bytes; and so on.
    """
    size, count = int(section_ends[-1]) - begin, int(counts.sum())
    if (counts < 0).any() or count > size:
        return None
    head = _PROLOGUE + avro_block.long(count) + avro_block.long(size)
    container = b"".join([head, memoryview(octets)[begin : begin + size], avro_block.SYNC])
    try:
        frame = pl.read_avro(io.BytesIO(container))
    except (pl.exceptions.PanicException, Exception):
        return None
    if frame.height != count:
        return None
    lengths = frame["record"].bin.size().to_numpy().astype(np.int64)
    sizes = _varint_sizes(lengths)
    ends = np.cumsum(lengths + sizes) + begin
    if (np.concatenate([[begin], ends])[np.cumsum(counts)] != section_ends).any():
        return None
    starts = ends - lengths
    read, behind, wrong = _varints(octets, starts - sizes)
    if wrong.any() or (read != lengths).any() or (behind != starts).any():
        return None
    return starts, ends


def _laid_out(
    octets: bytes, batches: Sequence[RecordBatch], of: Positions, starts: Positions, ends: Positions
) -> tuple[Places, npt.NDArray[np.bool_]]:
    """What lies where in records of these bounds, and which are not as they should be."""
    fields = _Fields(octets, starts + 1, ends)
    since = fields.number()
    delta = fields.number()
    key, key_end = fields.run()
    value, value_end = fields.run()
    fields.pass_headers()
    first = np.array([batch.base_offset for batch in batches], np.int64)
    last = np.array([batch.last_offset for batch in batches], np.int64)
    offset = first[of] + delta
    bad = fields.bad | (fields.at != ends) | (delta < 0) | (delta > (last - first)[of])
    bad[1:] |= (np.diff(offset) <= 0) & (of[1:] == of[:-1])
    return Places(octets, of, offset, _times(batches, of, since), key, key_end, value, value_end), bad


def _times(batches: Sequence[RecordBatch], of: Positions, since: Positions) -> Positions:
    headers = np.frombuffer(b"".join([batch.wire[: HEADER.size] for batch in batches]), _HEADER)
    appended = (headers["attributes"] & LOG_APPEND_TIME) != 0
    base = np.where(appended, headers["newest"], headers["first"]).astype(np.int64)
    return base[of] + np.where(appended[of], 0, since)


class _Fields:
    """Goes through all records at the same time, field by field. A record that is `bad` stays in bounds."""

    def __init__(self, octets: bytes, at: Positions, ends: Positions) -> None:
        self._octets = octets
        self._ends = ends
        self.at = at
        self.bad = at > ends
        self._move(at)

    def number(self) -> Positions:
        numbers, at, wrong = _varints(self._octets, self.at)
        self.bad |= wrong
        self._move(at)
        return numbers

    def run(self) -> tuple[Positions, Positions]:
        """Where bytes with their length before them begin and end."""
        lengths = self.number()
        begin = self.at
        self._move(begin + np.maximum(lengths, 0))
        return begin, begin + np.maximum(lengths, -1)

    def pass_headers(self) -> None:
        counts = self.number()
        self.bad |= (counts < 0) | (counts > _MOST_HEADERS)
        left = np.flatnonzero(~self.bad & (counts > 0))
        counts = counts[left]
        while len(left):
            those = _Fields(self._octets, self.at[left], self._ends[left])
            those.run()
            those.run()
            self.at[left] = those.at
            self.bad[left] |= those.bad
            counts -= 1
            left, counts = left[counts > 0], counts[counts > 0]

    def _move(self, at: Positions) -> None:
        self.bad |= at > self._ends
        self.at = np.minimum(at, self._ends)


def _varints(octets: bytes, at: Positions) -> tuple[Positions, Positions, npt.NDArray[np.bool_]]:
    """The zigzag numbers at these positions, where they end, and which are of more than eight bytes."""
    everywhere = np.ndarray((len(octets) - 7,), "<u8", octets, strides=(1,))
    eight = everywhere[at]
    numbers = eight & np.uint64(0x7F)
    more = (eight & np.uint64(0x80)) != 0
    behind = at + 1
    for byte in range(1, 8):
        if not more.any():
            break
        low = (eight >> np.uint64(8 * byte)) & np.uint64(0xFF)
        numbers |= np.where(more, (low & np.uint64(0x7F)) << np.uint64(7 * byte), np.uint64(0))
        behind += more
        more &= low > 0x7F
    signs = -(numbers & np.uint64(1)).view(np.int64)
    return (numbers >> np.uint64(1)).view(np.int64) ^ signs, behind, more


def _varint_sizes(lengths: Positions) -> Positions:
    """Of these numbers, none negative."""
    sizes = np.ones(len(lengths), np.int64)
    for bits in range(6, 63, 7):
        longer = lengths >= (1 << bits)
        if not longer.any():
            break
        sizes += longer
    return sizes


def _walked(
    octets: bytes,
    batches: Sequence[RecordBatch],
    unpacked: Sequence[bytes | memoryview],
    begins: Positions,
    which: Sequence[int],
) -> tuple[Places, dict[int, GarbledRecordsError]]:
    """The same, record by record, of the batches `which`."""
    found: list[tuple[int, ...]] = []
    errors: dict[int, GarbledRecordsError] = {}
    for number in which:
        places, error = walk(batches[number], unpacked[number])
        begin = int(begins[number])
        found.extend(_row(number, begin, one) for one in places)
        if error is not None:
            errors[number] = error
    columns = np.array(found, np.int64).reshape(-1, len(_COLUMNS)).T
    return Places(octets, *columns), errors


def _row(number: int, begin: int, one: Place) -> tuple[int, ...]:
    return (number, one.offset, one.timestamp, *(begin + at for at in (*one.key, *one.value)))


def _together(some: Places, others: Places) -> Places:
    columns = [np.concatenate([getattr(some, name), getattr(others, name)]) for name in _COLUMNS]
    # Those of a batch are all of one kind, and in order.
    return Places(some.octets, *columns).take(np.argsort(columns[0], kind="stable"))
