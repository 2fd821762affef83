"""Which entries of a changelog partition hold. The rules, without Kafka.

A changelog partition has one owner: the worker to which its source partition is assigned. Kafka does not
stop anybody else from writing to it. A worker that was paused past its session, or whose bytes a network
held back, writes after its partition has moved; and a compacted topic keeps the last record of a key.

So every record says who wrote it, in a header: its `Rank`. And an owner says from which offset on the
partition is its own, before it writes: its `Claim`, kept where only the rightful owner can put it (the
metadata of the group's committed offset). From these follows, for each record, whether it holds:

- a record at or past the claim's offset, of an earlier epoch than the claim's, is a zombie's: it never holds,
  also if what it replaced has been compacted away, and also if that was a deletion;
- of all others the one of the highest rank holds, wherever it lies.

Once a partition is owned, what holds is what its owner has written, and nothing else.

Where the last record of a key is not the one that holds, or may not be, the key is outdated: its owner
writes it again.
"""

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

RANK_HEADER: Final = "chatgauge-rank"
_RANK: Final = struct.Struct(">qq")
_MOST: Final = 10**17
"""No epoch and no sequence comes this far: what says so is not ours."""
_NOTE: Final = re.compile(
    r"owner: epoch (\d{1,18}) since (\d{1,18})(?: after epoch (\d{1,18}) since (\d{1,18}))?", re.ASCII
)


class Rank(NamedTuple):
    """Who wrote a record, and when: of two ranks of a partition the higher one was written later."""

    epoch: int
    """How many claims there had been of the partition. 0: written before there were any."""
    sequence: int
    """How many records that owner had written before."""

    def encode(self) -> bytes:
        """The value of the record's header."""
        return _RANK.pack(*self)


class Since(NamedTuple):
    """From `offset` on, an offset of the changelog partition, only records of `epoch` and later hold."""

    epoch: int
    offset: int


class Claim(NamedTuple):
    """As `Since`; with `after`, an earlier claim, as long as not everything is restored that was outdated
    when this one was made. Until then records before `since` are still to be told apart by that one."""

    epoch: int
    since: int
    after: Since | None = None

    def note(self) -> str:
        """As the metadata of a committed offset."""
        note = f"owner: epoch {self.epoch} since {self.since}"
        return (
            note if self.after is None else f"{note} after epoch {self.after.epoch} since {self.after.offset}"
        )

    @classmethod
    def read(cls, note: str) -> "Claim":
        """From the metadata of a committed offset; of anything else, no claim."""
        if (found := _NOTE.fullmatch(note)) is None:
            return UNCLAIMED
        epoch, since, *after = (int(digits) for digits in found.groups() if digits is not None)
        return cls(epoch, since, Since(*after) if after else None)

    def complete(self) -> "Claim":
        """The same, when everything is restored."""
        return self._replace(after=None)

    def refuses(self, offset: int, epoch: int) -> bool:
        """Whether the record of this epoch that lies there is a zombie's."""
        if offset >= self.since and epoch < self.epoch:
            return True
        return self.after is not None and offset >= self.after.offset and epoch < self.after.epoch


UNCLAIMED: Final = Claim(0, 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of a changelog. `value` is None where it deletes its key."""

    offset: int
    key: bytes | None
    value: bytes | None
    rank: Rank | None
    """None: its writer doesn't say."""


def rank_of(headers: Iterable[tuple[str, bytes | None]]) -> Rank | None:
    """The rank in a record's headers; None when there is none, or none that can be read."""
    for name, value in headers:
        if name == RANK_HEADER and value is not None and len(value) == _RANK.size:
            rank = Rank(*_RANK.unpack(value))
            if 0 <= rank.epoch < _MOST and 0 <= rank.sequence < _MOST:
                return rank
    return None


class SupersededError(Exception):
    """A later owner has written: the partition is no longer ours."""


class Entries:
    """The entries of one changelog partition that hold, by key.

    `claim` is the latest that is known; `epoch` the latest that is known to have been begun.
    """

    def __init__(self, claim: Claim = UNCLAIMED, epoch: int = 0) -> None:
        self.claim = claim
        self.next_offset = 0
        """Every record before it has been taken, or is the owner's."""
        self._is_owned = False
        self._values: dict[bytes, bytes] = {}
        self._ranks: dict[bytes, Rank] = {}
        self._outdated: dict[bytes, None] = {}
        self._written: set[int] = set()
        self._epoch = max(epoch, claim.epoch)
        self._sequence = 0

    @property
    def values(self) -> Mapping[bytes, bytes]:
        """What holds, by key."""
        return MappingProxyType(self._values)

    @property
    def outdated(self) -> Sequence[bytes]:
        """Keys of which the last record may not be the one that holds: they have to be written again."""
        return list(self._outdated)

    @property
    def is_owned(self) -> bool:
        """Whether a claim of this worker's was the last that is known."""
        return self._is_owned

    def __len__(self) -> int:
        return len(self._values)

    def take(self, entry: Entry) -> None:
        """Take a record. Of a partition that was owned, what has not been taken before is another's."""
        if self._is_owned:
            if entry.offset >= self.next_offset:
                self._take_foreign(entry)
            return
        self.next_offset = max(self.next_offset, entry.offset + 1)
        if entry.key is None:
            return  # of no key, it replaces nothing
        rank = entry.rank or self._rank_by_place(entry.offset)
        self._epoch = max(self._epoch, rank.epoch)
        known = self._ranks.get(entry.key)
        if self.claim.refuses(entry.offset, rank.epoch) or (known is not None and rank < known):
            self._outdated[entry.key] = None
            return
        self._ranks[entry.key] = rank
        self._outdated.pop(entry.key, None)
        self._hold(entry.key, entry.value)

    def next_claim(self) -> Claim:
        """The claim of whoever owns the partition next, having taken all records before `next_offset`."""
        after = None
        if self._outdated and self.claim != UNCLAIMED:
            after = self.claim.after or Since(self.claim.epoch, self.claim.since)
        return Claim(self._epoch + 1, self.next_offset, after)

    def own(self, claim: Claim) -> None:
        """The partition is ours: what is taken from now on are records of others."""
        self.claim = claim
        self._is_owned = True
        self._epoch = claim.epoch
        self._sequence = 0
        self._ranks.clear()  # nobody asks for them any more

    def write(self, key: bytes, value: bytes | None) -> Rank:
        """Have an entry, or delete it; the rank under which the owner is to write it.

        Until it is known to be `written` its key is outdated: it may be there or not.
        """
        rank = Rank(self.claim.epoch, self._sequence)
        self._sequence += 1
        self._hold(key, value)
        self._outdated[key] = None
        return rank

    def written(self, keys: Iterable[bytes], offsets: Iterable[int]) -> None:
        """Kafka has what the owner wrote last of these keys, at these offsets."""
        for key in keys:
            self._outdated.pop(key, None)
        self._written.update(offsets)

    @property
    def end(self) -> int:
        """The offset past the owner's last record, as far as it is known."""
        return max(self._written, default=self.next_offset - 1) + 1

    def others(self, end: int) -> Sequence[int]:
        """The offsets before `end` that have not been taken yet and are not the owner's, in their order."""
        return [offset for offset in range(self.next_offset, end) if offset not in self._written]

    def repel(self, entries: Iterable[Entry], end: int) -> None:
        """Take all records of others before `end`: they don't hold, and their keys are outdated.

        Raises SupersededError when one of them is of a later owner.
        """
        for entry in entries:
            if entry.rank is not None and entry.rank.epoch > self.claim.epoch:
                raise SupersededError(f"epoch {entry.rank.epoch} has begun, ours was {self.claim.epoch}")
            self._take_foreign(entry)
        self.next_offset = max(self.next_offset, end)
        self._written = {offset for offset in self._written if offset >= self.next_offset}

    def _take_foreign(self, entry: Entry) -> None:
        self.next_offset = max(self.next_offset, entry.offset + 1)
        if entry.rank is not None:
            self._epoch = max(self._epoch, entry.rank.epoch)
        if entry.key is not None:
            self._outdated[entry.key] = None

    def _rank_by_place(self, offset: int) -> Rank:
        """Of a record whose writer doesn't say: an earlier version's, which knew of no claims.

        It may have run after this one, too. Then it has left no claim on record, and what it wrote last
        holds.
        """
        return Rank(self._epoch if self.claim == UNCLAIMED else 0, offset)

    def _hold(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value
