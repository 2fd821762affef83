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

    def take(self, most_records: int) -> Fetched:
        """The next batches, as many as have `most_records`."""
        batches, count = [], 0
        while self._left and count < most_records:
            batches.append(batch := self._left.pop())
            count += batch.count
        first = self.next_fetch_offset
        self.next_fetch_offset = batches[-1].next_offset if self._left else self._end
        return Fetched(first, self.next_fetch_offset, batches)


class _Results(dict[Any, Any]):
    """What a fetcher has for its consumer: of the wanted topics, results that hand over batches."""

    def __init__(self, wanted: Callable[[str], bool], most_records: int) -> None:
        super().__init__()
        self._wanted = wanted
        self._most_records = most_records

    def __setitem__(self, tp: Any, result: Any) -> None:
        records = getattr(result, "_partition_records", None)
        if records is not None and self._wanted(tp.topic):
            _leave(result, _Packed(records), self._most_records)
        super().__setitem__(tp, result)


def leave_packed(
    consumer: AIOKafkaConsumer, wanted: Callable[[str], bool] = lambda topic: True, most_records: int = ALL
) -> None:
    """What a started consumer fetches from now on, of the wanted topics, comes as `Fetched` from `getmany`.

    Each call gives one of each partition, in a list, with batches that have at least `most_records`
    records, or all that there are. Asked again, it does nothing.
    """
    fetcher = consumer._fetcher
    if isinstance(fetcher._records, _Results):
        return
    results = _Results(wanted, most_records)
    for tp, result in fetcher._records.items():
        results[tp] = result
    fetcher._records = results


def _leave(result: Any, packed: _Packed, most_records: int) -> None:
    result._partition_records = packed

    def getall(max_records: int | None = None) -> list[Fetched]:
        if not result.has_more() or not result.check_assignment(result._topic_partition):
            return []
        fetched = packed.take(most_records)
        result._update_position()
        if packed.exhausted:
            result._partition_records = None
        return [fetched]

    result.getall = getall


def leave_bare(consumer: AIOKafkaConsumer, wanted: Callable[[str], bool] = lambda topic: True) -> None:
    """What the consumer has fetched by now, of the wanted topics, comes without aiokafka's own objects."""
    for tp, result in consumer._fetcher._records.items():
        records = getattr(result, "_partition_records", None)
        if records is not None and wanted(tp.topic):
            records._consumer_record = _as_it_is


def _as_it_is(tp: Any, record: Any) -> Any:
    return record
