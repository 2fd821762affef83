"""State that is durable in a compacted topic: taken over, written, and kept right by its owner.

One changelog has as many partitions as the source; who has a source partition owns the changelog's of the
same number. What holds in a partition is `streams.runtime.entries`'s to say; here is the order of effects.

Taking a partition over:

1. the recovered entries are completed with what has been written since;
2. the claim is committed, which Kafka refuses to whoever is not of the group's present generation;
3. what is outdated is written again. Until that is done, the claim names the one before it.

Writing:

1. the entries are written, each with its rank, and acknowledged by Kafka;
2. the offsets show whether somebody else has written in between. If so, that is read, and the owner's own
   entries are written again after it; a record of a later owner ends the ownership instead.

Where little is written, `watch` looks for the same at times. Topics of state aren't compacted before five
minutes have passed since a record landed (`min.compaction.lag.ms`), much longer than an owner takes to
notice.

What was handed to Kafka and not acknowledged may be there or not: it holds, and is written again before
anything builds on it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from streams.runtime import metrics
from streams.runtime.entries import Claim, Entries, Entry, Rank, SupersededError
from streams.runtime.errors import LogUnavailableError, MovedError

log = logging.getLogger(__name__)

_NOTHING: Final[Mapping[bytes, bytes]] = MappingProxyType({})


class Write(NamedTuple):
    """A record to be written to a changelog."""

    key: bytes
    value: bytes | None
    rank: Rank


class Log(Protocol):
    """The topic below a changelog. While Kafka is away, its methods wait."""

    @property
    def topic(self) -> str: ...

    async def end(self, partition: int) -> int:
        """The offset past the last record. Raises LogUnavailableError when Kafka doesn't answer in time."""
        ...

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        """The records of these offsets, `end` excluded. Raises LogUnavailableError."""
        ...

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        """Write; returns when Kafka has everything: the offsets, one for each.

        Waits while Kafka is away. Raises MovedError when it is not `wanted` any more meanwhile.
        """
        ...

    async def claim(self, partition: int, claim: Claim) -> None:
        """Put the claim on record, as long as the partition stays ours from now on, or never.

        Raises MovedError when it is not, LogUnavailableError when the claim may be on record or not.
        """
        ...


@dataclass(eq=False)
class _Owned:
    """A partition that is ours: one time of owning it."""

    entries: Entries
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: "list[_Request]" = field(default_factory=list)


@dataclass
class _Request:
    entries: Mapping[bytes, bytes | None]
    done: bool = False


class Changelog:
    """The partitions of one topic of state that this worker owns, or is about to own."""

    def __init__(self, topic: Log) -> None:
        self._log = topic
        self._entries: dict[int, Entries] = {}
        self._owned: dict[int, _Owned] = {}
        self._epochs: dict[int, int] = {}
        self._assignment = object()

    @property
    def topic(self) -> str:
        return self._log.topic

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def expect(self, claims: Mapping[int, Claim]) -> set[int]:
        """These partitions are about to be recovered; the claims are the latest. Those to be read whole.

        What this worker was the last to own is known already, but for what came since.
        """
        self.release()
        kept = {
            partition: entries
            for partition, entries in self._entries.items()
            if entries.is_owned and claims.get(partition) == entries.claim
        }
        whole = claims.keys() - kept.keys()
        self._entries = kept | {
            partition: Entries(claims[partition], self._epochs.get(partition, 0)) for partition in whole
        }
        return whole

    def recover(self, partition: int, entries: Iterable[Entry], next_offset: int) -> None:
        """Take up the records of a partition as far as `next_offset`, in the order of their offsets.

        Those of a partition that is not expected are of no concern any more.
        """
        if (known := self._entries.get(partition)) is not None:
            _take(known, entries, next_offset)

    async def take_over(self, partition: int) -> None:
        """Own the partition: from now on its entries are what this worker writes.

        Raises MovedError when it belongs to another by now, LogUnavailableError.
        """
        entries, assignment = self._entries.get(partition), self._assignment
        if entries is None:
            raise MovedError(f"{self.topic}, partition {partition}")
        end = await self._log.end(partition)
        if end > entries.next_offset:
            _take(entries, await self._log.read(partition, entries.next_offset, end), end)
        self._require_same(partition, assignment)
        claim = entries.next_claim()
        self._epochs[partition] = claim.epoch
        await self._log.claim(partition, claim)
        self._require_same(partition, assignment)
        entries.own(claim)
        owned = self._owned[partition] = _Owned(entries)
        try:
            async with owned.turn:
                await self._complete(partition, owned)
        except BaseException:
            if self._owned.get(partition) is owned:
                del self._owned[partition]
            raise

    def entries(self, partition: int) -> Mapping[bytes, bytes]:
        """What holds in a partition, by key."""
        entries = self._entries.get(partition)
        return _NOTHING if entries is None else entries.values

    def owns(self, partition: int) -> bool:
        """Whether the partition is ours."""
        return partition in self._owned

    def release(self) -> None:
        """The partitions are going away: nothing more is written for them."""
        self._assignment = object()
        self._owned.clear()

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """Write entries by key; None deletes one. Returns when Kafka has them. Not atomic across entries.

        What is written while another write is under way waits, and goes out together.
        Raises MovedError when the partition is not ours any more.
        """
        owned = self._owned.get(partition)
        if owned is None:
            raise MovedError(f"{self.topic}, partition {partition}")
        request = _Request(entries)
        owned.waiting.append(request)
        async with owned.turn:
            if request.done:
                return
            together, owned.waiting = owned.waiting, []
            items = [item for each in together for item in each.entries.items()]
            try:
                await self._append(partition, owned, items)
                try:
                    await self._settle(partition, owned, owned.entries.end)
                except LogUnavailableError as error:  # `watch` asks again
                    log.info("%s/%d: who else wrote is not known now: %s", self.topic, partition, error)
            except BaseException:
                # Cancelled, for one: what others have given is still theirs to see written.
                owned.waiting[:0] = [each for each in together if each is not request]
                raise
            for each in together:
                each.done = True

    async def watch(self) -> None:
        """Look for writes of others behind the owner's last, and write again what is outdated."""
        for partition, owned in list(self._owned.items()):
            async with owned.turn:
                try:
                    await self._settle(partition, owned, await self._log.end(partition))
                except LogUnavailableError as error:
                    log.info("%s/%d: who else wrote is not known now: %s", self.topic, partition, error)
                except MovedError as error:
                    log.info("%s", error)

    async def _complete(self, partition: int, owned: _Owned) -> None:
        """Write again what was outdated when the partition was taken over."""
        entries = owned.entries
        if entries.outdated:
            log.warning(
                "%s/%d: %d entries were overwritten by a worker that had lost them, or may not have been"
                " written, and are restored",
                *(self.topic, partition, len(entries.outdated)),
            )
            await self._settle(partition, owned, entries.next_offset)
        if entries.claim.after is not None:
            claim = entries.claim.complete()
            await self._log.claim(partition, claim)
            self._require(partition, owned)
            entries.claim = claim

    async def _settle(self, partition: int, owned: _Owned, end: int) -> None:
        """Take what others have written before `end`, and write again what is outdated, until nothing is."""
        self._require(partition, owned)
        await self._repel(partition, owned, end)
        while owned.entries.outdated:
            await self._restore(partition, owned)
            await self._repel(partition, owned, owned.entries.end)

    async def _repel(self, partition: int, owned: _Owned, end: int) -> None:
        others = owned.entries.others(end)
        found: list[Entry] = []
        if others:
            between = set(others)
            read = await self._log.read(partition, others[0], others[-1] + 1)
            self._require(partition, owned)
            found = [entry for entry in read if entry.offset in between]
        try:
            owned.entries.repel(found, end)
        except SupersededError as error:
            del self._owned[partition]
            raise MovedError(f"{self.topic}, partition {partition}: {error}") from error
        if found:
            log.warning(
                "%s/%d: another worker wrote at offsets %d to %d; what it has replaced is restored",
                *(self.topic, partition, found[0].offset, found[-1].offset),
            )

    async def _restore(self, partition: int, owned: _Owned) -> None:
        entries = owned.entries
        metrics.FOREIGN_WRITES.labels(self.topic).inc(len(entries.outdated))
        await self._append(partition, owned, [(key, entries.values.get(key)) for key in entries.outdated])

    async def _append(
        self, partition: int, owned: _Owned, items: Sequence[tuple[bytes, bytes | None]]
    ) -> None:
        self._require(partition, owned)
        writes = [Write(key, value, owned.entries.write(key, value)) for key, value in items]
        offsets = await self._log.append(partition, writes, lambda: self._owned.get(partition) is owned)
        self._require(partition, owned)  # what is written after that is a zombie's
        owned.entries.written((key for key, _ in items), offsets)

    def _require(self, partition: int, owned: _Owned) -> None:
        if self._owned.get(partition) is not owned:
            raise MovedError(f"{self.topic}, partition {partition}")

    def _require_same(self, partition: int, assignment: object) -> None:
        if self._assignment is not assignment:
            raise MovedError(f"{self.topic}, partition {partition}: another rebalance has begun")


def _take(known: Entries, entries: Iterable[Entry], next_offset: int) -> None:
    for entry in entries:
        known.take(entry)
    known.next_offset = max(known.next_offset, next_offset)
