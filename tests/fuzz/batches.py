"""Record batches, some of them spoiled in any way, between good ones: nobody else's rows change."""

import random
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from schemas.batch import Batch
from schemas.columnar import ColumnarReader
from schemas.errors import GarbledRecordsError, Reason, UnpackError
from schemas.raw import RawReader, Source
from schemas.record_batch import RecordBatch, committed, split
from schemas.records import KafkaRecord, records
from tests.fuzz.mutation import spoiled
from tests.schemas.batches import CONTROL, PACK, TRANSACTIONAL, Sent, batch, section, wrap
from tests.schemas.events import REQUEST, request, value

_LIMIT = 2**20
_POOL = 64
_WORDS = (0, 1, 2, 5, 127, 2**15, 2**31 - 1)
_KEYS = (None, b"", b"space-1", bytes(range(200)))
_HEADERS = ((), (), ((b"traceparent", b"00-1-2-01"),), ((b"a", None), (b"\xff", b"b" * 70)))


class Fetched(NamedTuple):
    """A batch as it is fetched. `good` says which values of the pool it has; None: it is spoiled."""

    wire: bytes
    base: int
    good: list[int] | None


Case = tuple[dict[str, int], list[list[tuple[Any, ...]]]]


class RecordBatches:
    """What is wrong with a batch is told of that batch alone; what can be read of it, is.

    A case has seven spoiled batches, in the mean.
    """

    name = "batches"

    def __init__(self) -> None:
        self._pool = [value(request(number)) for number in range(_POOL)]
        self._values = ColumnarReader(REQUEST)
        self._rows = self._values.read(self._pool, np.arange(_POOL)).frame.drop("_offset")
        self._readers: dict[tuple[int, int], RawReader] = {}

    def case(self, chance: random.Random) -> Case:
        """How to read, and the batches of each partition: good ones at both ends and between the others."""
        way = {"few": chance.choice((0, 0, 10**6)), "at_once": chance.choice((500, *[10**6] * 9))}
        return way, [self._partition(chance) for _ in range(chance.choice((1, 1, 2)))]

    def check(self, case: Case) -> None:
        way, plain = case
        partitions = [[Fetched(*one) for one in partition] for partition in plain]
        reader = self._reader(way)
        sources = [
            Source(list(committed(split(b"".join(one.wire for one in partition)))), partition[0].base)
            for partition in partitions
        ]
        rows = reader.read(sources)
        for source, partition, part in zip(sources, partitions, rows.apart(rows.batch), strict=True):
            self._check_partition(source, partition, part)

    def _check_partition(self, source: Source, partition: list[Fetched], part: Batch) -> None:
        read = part.frame["_offset"].to_numpy()
        ends = [*(one.base for one in partition[1:]), 2**62]
        begins = np.searchsorted(read, [one.base for one in partition])
        owner = np.repeat(np.arange(len(partition)), np.diff([*begins, len(read)]))
        good = np.array([one.good is not None for one in partition])
        expected = [at for one in partition for at in one.good or ()]
        rows = part.frame.filter(pl.Series(good[owner]))
        assert rows.drop("_offset").equals(self._rows[expected]), "good batches have other rows"
        refused = {refusal.offset: refusal.reason for refusal in part.refused}
        assert len(refused) == len(part.refused), "an offset is refused once"
        self._check_spoiled(source, partition, ends, part.frame.filter(pl.Series(~good[owner])), refused)

    def _check_spoiled(
        self,
        source: Source,
        partition: list[Fetched],
        ends: list[int],
        rows: pl.DataFrame,
        refused: dict[int, Reason],
    ) -> None:
        """As record by record."""
        found = iter([*source.batches, None])
        fetched = next(found)
        expected: dict[int, Reason] = {}
        read: list[KafkaRecord] = []
        for one, end in zip(partition, ends, strict=True):
            while fetched is not None and fetched.base_offset < one.base:
                fetched = next(found)
            if one.good is not None or fetched is None or fetched.base_offset >= end:
                continue  # not there: it says of itself that it is a marker
            records_of_it, lost = _read(fetched)
            read.extend(records_of_it)
            assert all(one.base <= record.offset < end for record in records_of_it)
            if lost is not None:
                assert one.base <= lost < end
                expected[lost] = Reason.UNREADABLE_BATCH
        offsets = np.array([record.offset for record in read], np.int64)
        alone = self._values.read([record.value for record in read], offsets)
        assert rows.equals(alone.frame), "the rows are not those of the records"
        expected |= {refusal.offset: refusal.reason for refusal in alone.refused}
        assert refused == expected, "what is refused is not what is bad"

    def _reader(self, way: dict[str, int]) -> RawReader:
        key = way["few"], way["at_once"]
        if key not in self._readers:
            self._readers[key] = RawReader(REQUEST, limit=_LIMIT, few=key[0], at_once=key[1])
        return self._readers[key]

    def _partition(self, chance: random.Random) -> list[tuple[Any, ...]]:
        base, found = chance.randrange(1_000), list[tuple[Any, ...]]()
        for spoil in [False, *(chance.random() < 0.6 for _ in range(chance.choice((1, 5, 15)))), True, False]:
            good = [chance.randrange(_POOL) for _ in range(chance.choice((1, 2, 6)))]
            sent = self._sent(good, chance)
            last = base + (sent[-1].delta or 0)
            codec = chance.choice((0, 0, 0, 1, 2, 3, 4))
            wire = self._spoiled(sent, base, last, chance) if spoil else batch(sent, base, codec=codec)
            found.append(tuple(Fetched(wire, base, None if spoil else good)))
            base = last + chance.choice((1, 1, 3))
        return found

    def _sent(self, good: list[int], chance: random.Random) -> list[Sent]:
        deltas = sorted(chance.sample(range(len(good) * chance.choice((1, 1, 30))), len(good)))
        alike = chance.choice(_KEYS), chance.choice(_HEADERS)
        if chance.random() < 0.5:
            return [Sent(self._pool[at], *alike, delta) for at, delta in zip(good, deltas, strict=True)]
        return [
            Sent(self._pool[at], chance.choice(_KEYS), chance.choice(_HEADERS), delta)
            for at, delta in zip(good, deltas, strict=True)
        ]

    def _spoiled(self, sent: list[Sent], base: int, last: int, chance: random.Random) -> bytes:
        """By who writes it: its values, records, what they are packed to, its header. Or on its way."""
        codec = chance.choice((0, 0, 0, 0, 1, 2, 3, 4))
        header: dict[str, Any] = {"codec": codec, "count": len(sent), "last": last}
        kind = chance.randrange(10)
        if kind < 4:
            at = chance.randrange(len(sent))
            bad = spoiled(sent[at].value or b"", self._pool, chance)
            sent[at] = Sent(bad, sent[at].key, sent[at].headers, sent[at].delta)
        octets = section(sent)
        if 4 <= kind < 7:
            octets = spoiled(octets, self._pool, chance)
        packed = bytes(PACK[codec](octets))
        if kind == 7:
            packed = spoiled(packed, self._pool, chance)
        if kind == 8:
            header |= chance.choice(
                (
                    {"count": chance.choice((-1, *_WORDS))},
                    {"last": base + chance.choice((-1, *_WORDS))},
                    {"codec": chance.randrange(8)},
                    {"newest": chance.choice((-(2**63), 2**63 - 1))},
                    {"flags": chance.choice((CONTROL, TRANSACTIONAL, CONTROL | TRANSACTIONAL))},
                )
            )
        octets = bytearray(wrap(packed, base, **header))
        if kind == 9:
            octets[chance.randrange(16, len(octets))] ^= 1 << chance.randrange(8)
        return bytes(octets)


def _read(one: RecordBatch) -> tuple[list[KafkaRecord], int | None]:
    """Its records, and the first offset that is lost."""
    if one.damage is not None:
        return [], one.base_offset
    try:
        return list(records(one, _LIMIT)), None
    except GarbledRecordsError as error:
        return list(error.read), error.offset
    except UnpackError:
        return [], one.base_offset
