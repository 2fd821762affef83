"""What a writer is: a step from the records of a topic to inserts, without any effect of its own.

The order of a step is `sinks.consumer`'s: dead letters, inserts, commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from sinks.poison import Halt


class KafkaRecord(Protocol):
    """What is read of an aiokafka record; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True)
class Tenure:
    """One assignment of a partition to this consumer. Taken away and given back, it is another."""

    partition: int
    epoch: int


@dataclass(frozen=True)
class Fetch:
    """Records of one partition, one after the other; never empty."""

    tenure: Tenure
    records: Sequence[KafkaRecord]

    @property
    def partition(self) -> int:
        return self.tenure.partition

    @property
    def next_offset(self) -> int:
        """Where to go on after these."""
        return self.records[-1].offset + 1


@dataclass(frozen=True)
class Insert:
    """Rows that ClickHouse takes as one block, whole or not at all."""

    table: str
    rows: pa.Table
    token: str
    """Names the content: ClickHouse takes a token once, so that an insert can safely be sent again."""
    tenure: Tenure | None = None
    """Only to be made while the partition is held; None when a late one does no harm."""


@dataclass(frozen=True)
class Step:
    """What has to happen, in this order, before the positions may be committed."""

    letters: Sequence[Mapping[str, Any]] = ()
    """DeadLetter records."""
    inserts: Sequence[Insert] = ()
    positions: Mapping[Tenure, int] = field(default_factory=dict)
    """Per partition the first offset that a restart has to read again."""
    halts: Mapping[Tenure, Halt] = field(default_factory=dict)
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
        self, fetches: Sequence[Fetch], held: frozenset[Tenure], now: float, *, last: bool = False
    ) -> Step:
        """The step for these records. Must not block on anything outside, nor raise for bad records.

        `held` are the assignments of the moment, `now` is a monotonic clock in seconds, and `last` says
        that no further call follows: what was held back must come out.
        """
        ...
