"""What an agent is given: the offsets that a fetch brings of one partition, and the records in them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from clients.kafka.fetched import Fetched
from schemas.record_batch import RecordBatch
from schemas.records import KafkaRecord, readable
from schemas.unpacking import MOST_BYTES
from streams.runtime import metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetch:
    """Of one partition. It may hold no record: then only the offsets have moved on."""

    topic: str
    partition: int
    fetched: Fetched
    beside: Sequence[Fetched] = field(default=(), repr=False)
    """What came of all partitions at the same time, this one included: to be read at once."""
    most_bytes: int = MOST_BYTES
    """That a batch may unpack to."""

    @property
    def first(self) -> int:
        """Where it begins."""
        return self.fetched.first

    @property
    def next_offset(self) -> int:
        """Where the next one begins."""
        return self.fetched.next_offset

    @cached_property
    def records(self) -> list[KafkaRecord]:
        """The records, one by one. Batches that can't be read are named in the log, and counted."""
        return list(readable(self.fetched.batches, self.first, self._refuse, self.most_bytes))

    def _refuse(self, batch: RecordBatch, why: str) -> None:
        metrics.UNREADABLE_BATCHES.labels(self.topic).inc()
        where = (self.topic, self.partition, batch.base_offset, batch.last_offset)
        log.error("%s/%d: the batch of offsets %d to %d %s", *where, why)
