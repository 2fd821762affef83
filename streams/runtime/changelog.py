"""State that is durable in a compacted topic: taken over, written, and kept right by its owner.

One changelog has as many partitions as the source; who has a source partition owns the changelog's of the
same number. What holds in a partition is `streams.runtime.entries`'s to say; here is the order of effects.

Taking a partition over:

1. the recovered entries are completed with what has been written since;
2. the claim is committed, which Kafka refuses to whoever is not of the group's present generation;
3. what is outdated is written again.

Writing:

1. the entries are written, each with its rank, and acknowledged by Kafka;
2. the offsets show whether somebody else has written in between. If so, that is read, and the owner's own
   entries are written again after it; a record of a later owner ends the ownership instead.

Where little is written, `watch` looks for the same at times. Topics of state aren't compacted before five
minutes have passed (`min.compaction.lag.ms`), much longer than an owner takes to notice.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from streams.runtime import metrics
from streams.runtime.entries import UNCLAIMED, Claim, Entries, Entry, Rank, SupersededError, WritePositions
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
        """Put the claim on record. Raises MovedError when the partition is not ours."""
        ...


@dataclass
class _Owned:
    """A partition that is ours."""

    positions: WritePositions
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

    @property
    def topic(self) -> str:
        return self._log.topic

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def expect(self, claims: Mapping[int, Claim]) -> set[int]:
        """These partitions are about to be recovered; the claims are the latest. Those to be read whole.

        What this worker was the last to own is known already, but for what came since it was recovered.
        """
        self._owned.clear()
        kept = {
            partition: entries
            for partition, entries in self._entries.items()
            if claims.get(partition) == entries.claim != UNCLAIMED
        }
        whole = claims.keys() - kept.keys()
        self._entries = kept | {partition: Entries(claims[partition]) for partition in whole}
        return whole

    def recover(self, partition: int, entries: Iterable[Entry], next_offset: int) -> None:
        """Take up the records of a partition as far as `next_offset`, in the order of their offsets."""
        known = self._entries.setdefault(partition, Entries())
        for entry in entries:
            known.take(entry)
        known.next_offset = max(known.next_offset, next_offset)

    async def take_over(self, partition: int) -> None:
        """Own the partition: from now on its entries are what this worker writes.

        Raises MovedError when it belongs to another by now, LogUnavailableError.
        """
        entries = self._entries.setdefault(partition, Entries())
        end = await self._log.end(partition)
        if end > entries.next_offset:
            self.recover(partition, await self._log.read(partition, entries.next_offset, end), end)
        claim = entries.next_claim()
        await self._log.claim(partition, claim)
        entries.own(claim)
        owned = self._owned[partition] = _Owned(WritePositions(claim.since))
        if entries.outdated:
            log.warning(
                "%s/%d: %d entries were overwritten by a worker that had lost them, and are restored",
                *(self.topic, partition, len(entries.outdated)),
            )
            async with owned.turn:
                await self._restore(partition, owned)

    def entries(self, partition: int) -> Mapping[bytes, bytes]:
        """What holds in a partition, by key."""
        entries = self._entries.get(partition)
        return _NOTHING if entries is None else entries.values

    def owns(self, partition: int) -> bool:
        """Whether the partition is ours."""
        return partition in self._owned

    def release(self) -> None:
        """The partitions are going away: nothing more is written for them."""
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
            except BaseException:
                # Cancelled, for one: what others have given is still theirs to see written.
                owned.waiting[:0] = [each for each in together if each is not request]
                raise
            for each in together:
                each.done = True

    async def watch(self) -> None:
        """Look for writes of others behind the owner's last."""
        for partition, owned in list(self._owned.items()):
            async with owned.turn:
                try:
                    await self._compare(partition, owned, (), await self._log.end(partition))
                except LogUnavailableError as error:
                    log.info("%s/%d: its end is not known now: %s", self.topic, partition, error)

    async def _append(
        self, partition: int, owned: _Owned, items: Iterable[tuple[bytes, bytes | None]]
    ) -> None:
        """Write, and restore what others have overwritten."""
        written = await self._written(partition, owned, items)
        await self._compare(partition, owned, written, max(written, default=-1) + 1)

    async def _compare(self, partition: int, owned: _Owned, own: Collection[int], end: int) -> None:
        others = owned.positions.others(own, end)
        if not others:
            return
        between = set(others)
        found = [
            entry
            for entry in await self._log.read(partition, others[0], others[-1] + 1)
            if entry.offset in between
        ]
        self._require(partition, owned)
        try:
            self._entries[partition].repel(found)
        except SupersededError as error:
            self._owned.pop(partition, None)
            raise MovedError(f"{self.topic}, partition {partition}: {error}") from error
        if found:
            log.warning(
                "%s/%d: another worker wrote at offsets %d to %d; what it has replaced is restored",
                *(self.topic, partition, found[0].offset, found[-1].offset),
            )
            await self._restore(partition, owned)

    async def _restore(self, partition: int, owned: _Owned) -> None:
        entries = self._entries[partition]
        metrics.FOREIGN_WRITES.labels(self.topic).inc(len(entries.outdated))
        await self._append(partition, owned, [(key, entries.values.get(key)) for key in entries.outdated])

    async def _written(
        self, partition: int, owned: _Owned, items: Iterable[tuple[bytes, bytes | None]]
    ) -> Sequence[int]:
        self._require(partition, owned)
        entries = self._entries[partition]
        writes = [Write(key, value, entries.write(key, value)) for key, value in items]
        return await self._log.append(partition, writes, lambda: self._owned.get(partition) is owned)

    def _require(self, partition: int, owned: _Owned) -> None:
        if self._owned.get(partition) is not owned:
            raise MovedError(f"{self.topic}, partition {partition}")
