"""What a writer is: a step from what was fetched of a topic to inserts, without any effect of its own.

The order of a step is `sinks.consumer`'s: dead letters, inserts, commit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from clients.kafka.fetched import Fetched
from schemas.raw import Source
from schemas.record_batch import RecordBatch
from schemas.records import KafkaRecord, readable
from sinks.dlq_limit import Halt


@dataclass(frozen=True)
class Assignment:
    """One assignment of a partition to this consumer. Taken away and given back, it is another."""

    partition: int
    epoch: int


@dataclass(frozen=True)
class Fetch:
    """What was fetched of one partition. It may hold no record: then only the position has moved on."""

    assignment: Assignment
    fetched: Fetched

    @property
    def partition(self) -> int:
        return self.assignment.partition

    @property
    def next_offset(self) -> int:
        """Where to go on after it."""
        return self.fetched.next_offset

    @property
    def source(self) -> Source:
        """What there is to be read in it."""
        return Source(self.fetched.batches, self.fetched.first)

    def records(self, unreadable: Callable[[RecordBatch, str], None], limit: int) -> Iterator[KafkaRecord]:
        """Its records, one by one; see `schemas.records.readable`."""
        return readable(self.fetched.batches, self.fetched.first, unreadable, limit)


@dataclass(frozen=True)
class Insert:
    """Rows that ClickHouse takes as one block, whole or not at all."""

    table: str
    rows: pa.Table
    token: str
    """Names the content: ClickHouse takes a token once, so that an insert can safely be sent again."""
    assignment: Assignment | None = None
    """Only to be made while the partition is held; None when a late one does no harm."""


@dataclass(frozen=True)
class Step:
    """What has to happen, in this order, before the positions may be committed."""

    letters: Sequence[Mapping[str, Any]] = ()
    """DeadLetter records, with their keys and values whole."""
    inserts: Sequence[Insert] = ()
    positions: Mapping[Assignment, int] = field(default_factory=dict)
    """Per partition the first offset that a restart has to read again."""
    halts: Mapping[Assignment, Halt] = field(default_factory=dict)
    """Partitions of which nothing was taken, and no more is to be read."""


class Writer(Protocol):
    """One topic's way into one table. Called from one thread at a time, in the order of the offsets."""

    @property
    def table(self) -> str: ...

    @property
    def stores_every_offset(self) -> bool:
        """Whether the highest `_offset` in the table says how far a partition has been written."""
        ...

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Assignment], now: float, *, last: bool = False
    ) -> Step:
        """The step for these fetches. Must not block on anything outside, nor raise for bad records.

        `held` are the assignments of the moment, `now` is a monotonic clock in seconds, and `last` says
        that no further call follows: what was held back must come out.
        """
        ...
