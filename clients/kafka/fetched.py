"""What a consumer has fetched, handed over as it came: record batches that nobody has unpacked.

aiokafka keeps the connection, the group and the positions. What it would do with the bytes of a fetch (unpack
them, in the middle of the event loop, and make an object of each record) is left to who reads them. This
rests on internals of aiokafka, hence on its pinned version, and on a contract test that holds it against
aiokafka's own reading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.consumer.fetcher as aiokafka_fetcher
from aiokafka import AIOKafkaConsumer
from aiokafka.record.memory_records import MemoryRecords

from schemas.record_batch import RecordBatch, committed, split

ALL: Final = 2**31


@dataclass(frozen=True)
class Fetched:
    """Of one partition: the offsets from `first` to before `next_offset`, and the batches that hold them.

    Batches may begin before `first`: those records have been fetched before. There may be no batch at all
    where the offsets are those of aborted transactions, of their markers, or of what compaction removed.
    """

    first: int
    next_offset: int
    batches: Sequence[RecordBatch]

    @property
    def count(self) -> int:
        """How many records there are, as the batches say."""
        return sum(batch.count for batch in self.batches)

    @property
    def nbytes(self) -> int:
        """As fetched."""
        return sum(len(batch.wire) for batch in self.batches)


def joined(parts: Sequence[Fetched]) -> Fetched:
    """What was fetched of a partition one after the other, as one."""
    if len(parts) == 1:
        return parts[0]
    batches = [batch for part in parts for batch in part.batches]
    return Fetched(parts[0].first, parts[-1].next_offset, batches)


class Budget:
    """How much a consumer hands over, of all partitions, until it is filled again: whole batches, at least
    one."""

    def __init__(self) -> None:
        self.fill(0, 0)

    def fill(self, records: int, nbytes: int) -> None:
        """From now on so many records, of so many bytes as fetched."""
        self.records, self.nbytes = records, nbytes
        self._is_full = self._is_touched = False

    @property
    def is_spent(self) -> bool:
        """Nothing more is handed over."""
        return self._is_full or self.records <= 0 or self.nbytes <= 0

    def takes(self, batch: RecordBatch) -> bool:
        """Whether the batch may be handed over; it then is."""
        fits = batch.count <= self.records and len(batch.wire) <= self.nbytes
        if self.is_spent or (self._is_touched and not fits):
            self._is_full = True
            return False
        self._is_touched = True
        self.records -= batch.count
        self.nbytes -= len(batch.wire)
        return True


class _KeptBytes(MemoryRecords):  # type: ignore[misc]  # aiokafka is untyped
    """aiokafka's view of a fetch, which keeps what it is a view of."""

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched


aiokafka_fetcher.MemoryRecords = _KeptBytes


class _Packed:
    """The batches of a fetch of one partition that have not been handed over yet."""

    def __init__(self, records: Any) -> None:
        self.next_fetch_offset: int = records.next_fetch_offset
        batches = list(split(records._records.fetched))
        self._end = max([self.next_fetch_offset, *(batch.next_offset for batch in batches[-1:])])
        aborted = records._aborted_transactions
        self._left = [
            batch for batch in committed(batches, aborted) if batch.next_offset > self.next_fetch_offset
        ]
        self._left.reverse()

    @property
    def exhausted(self) -> bool:
        return bool(self.next_fetch_offset >= self._end)

    def take(self, most_records: int, budget: Budget | None) -> Fetched:
        """The next batches, as many as have `most_records`, or as the budget takes."""
        batches, count = [], 0
        while self._left and count < most_records:
            if budget is not None and not budget.takes(self._left[-1]):
                break
            batches.append(batch := self._left.pop())
            count += batch.count
        first = self.next_fetch_offset
        if not self._left:
            self.next_fetch_offset = self._end
        elif batches:
            self.next_fetch_offset = batches[-1].next_offset
        return Fetched(first, self.next_fetch_offset, batches)


class _Results(dict[Any, Any]):
    """What a fetcher has for its consumer: of the wanted topics, results that hand over batches."""

    def __init__(self, wanted: Callable[[str], bool], most_records: int, budget: Budget | None) -> None:
        super().__init__()
        self._wanted = wanted
        self._most_records = most_records
        self._budget = budget

    def __setitem__(self, tp: Any, result: Any) -> None:
        records = getattr(result, "_partition_records", None)
        if records is not None and self._wanted(tp.topic):
            _leave(result, _Packed(records), self._most_records, self._budget)
        super().__setitem__(tp, result)


def leave_packed(
    consumer: AIOKafkaConsumer,
    wanted: Callable[[str], bool] = lambda topic: True,
    most_records: int = ALL,
    budget: Budget | None = None,
) -> None:
    """What a started consumer fetches from now on, of the wanted topics, comes as `Fetched` from `getmany`.

    Each call gives one of each partition, in a list, with batches that have at least `most_records`
    records, or all that there are; with a `budget`, no partition gives any once that is spent. Asked again,
    it does nothing.
    """
    fetcher = consumer._fetcher
    if isinstance(fetcher._records, _Results):
        return
    results = _Results(wanted, most_records, budget)
    for tp, result in fetcher._records.items():
        results[tp] = result
    fetcher._records = results


def _leave(result: Any, packed: _Packed, most_records: int, budget: Budget | None) -> None:
    result._partition_records = packed

    def getall(max_records: int | None = None) -> list[Fetched]:
        if not result.has_more() or not result.check_assignment(result._topic_partition):
            return []
        if budget is not None and budget.is_spent:
            return []
        fetched = packed.take(most_records, budget)
        result._update_position()
        if packed.exhausted:
            result._partition_records = None
        return [fetched] if fetched.next_offset > fetched.first else []

    result.getall = getall
