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

Where the last record of a key is not the one that holds, the key is outdated: its owner writes it again.
"""

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

RANK_HEADER: Final = "chatgauge-rank"
_RANK: Final = struct.Struct(">qq")


class Rank(NamedTuple):
    """Who wrote a record, and when: of two ranks of a partition the higher one was written later."""

    epoch: int
    """How many claims there had been of the partition. 0: written before there were any."""
    sequence: int
    """How many records that owner had written before."""

    def encode(self) -> bytes:
        """The value of the record's header."""
        return _RANK.pack(*self)


class Claim(NamedTuple):
    """From `since` on, an offset of the changelog partition, only records of `epoch` and later hold."""

    epoch: int
    since: int

    def note(self) -> str:
        """As the metadata of a committed offset."""
        return f"owner: epoch {self.epoch} since {self.since}"

    @classmethod
    def read(cls, note: str) -> "Claim":
        """From the metadata of a committed offset; of anything else, no claim."""
        words = note.split()
        if words[:2] == ["owner:", "epoch"] and len(words) == 5 and words[2].isdigit() and words[4].isdigit():
            return cls(int(words[2]), int(words[4]))
        return UNCLAIMED


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
            return Rank(*_RANK.unpack(value))
    return None


class SupersededError(Exception):
    """A later owner has written: the partition is no longer ours."""


class Entries:
    """The entries of one changelog partition that hold, by key."""

    def __init__(self, claim: Claim = UNCLAIMED) -> None:
        self.claim = claim
        """The latest claim that is known."""
        self.next_offset = 0
        """Where the first record lies that has not been taken yet."""
        self._values: dict[bytes, bytes] = {}
        self._ranks: dict[bytes, Rank] = {}
        self._outdated: dict[bytes, None] = {}
        self._epoch = 0
        self._sequence = 0

    @property
    def values(self) -> Mapping[bytes, bytes]:
        """What holds, by key."""
        return MappingProxyType(self._values)

    @property
    def outdated(self) -> Sequence[bytes]:
        """Keys of which the last record is not the one that holds: they have to be written again."""
        return list(self._outdated)

    def __len__(self) -> int:
        return len(self._values)

    def take(self, entry: Entry) -> None:
        """Take a record, in the order of the log, while the partition is recovered."""
        self.next_offset = max(self.next_offset, entry.offset + 1)
        if entry.key is None:
            return  # of no key, it replaces nothing
        rank = entry.rank or Rank(0, entry.offset)
        self._epoch = max(self._epoch, rank.epoch)
        known = self._ranks.get(entry.key)
        is_zombies = entry.offset >= self.claim.since and rank.epoch < self.claim.epoch
        if is_zombies or (known is not None and rank < known):
            self._outdated[entry.key] = None
            return
        self._ranks[entry.key] = rank
        self._hold(entry.key, entry.value)

    def next_claim(self) -> Claim:
        """The claim of whoever owns the partition next, having taken all records before `next_offset`."""
        return Claim(max(self._epoch, self.claim.epoch) + 1, self.next_offset)

    def own(self, claim: Claim) -> None:
        """The partition is ours: what is taken from now on are records of others."""
        self.claim = claim
        self._epoch = claim.epoch
        self._sequence = 0
        self._ranks.clear()

    def write(self, key: bytes, value: bytes | None) -> Rank:
        """Have an entry, or delete it; the rank under which the owner is to write it."""
        rank = Rank(self.claim.epoch, self._sequence)
        self._sequence += 1
        self._hold(key, value)
        return rank

    def repel(self, entries: Iterable[Entry]) -> None:
        """Take records that lie between the owner's own: they hold no more, and their keys are outdated.

        Raises SupersededError when one of them is of a later owner.
        """
        for entry in entries:
            if entry.rank is not None and entry.rank.epoch > self.claim.epoch:
                raise SupersededError(f"epoch {entry.rank.epoch} has begun, ours was {self.claim.epoch}")
            if entry.key is not None:
                self._outdated[entry.key] = None

    def _hold(self, key: bytes, value: bytes | None) -> None:
        self._outdated.pop(key, None)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value


@dataclass
class WritePositions:
    """Where the owner's records lie, to notice those of others: its own follow one another."""

    next_offset: int
    """Where its next record comes to lie, if nobody else writes."""

    def others(self, own: Collection[int], end: int) -> list[int]:
        """The offsets before `end` that are not the owner's, since this was last asked.

        `own` are the offsets of what the owner has written since.
        """
        begin, self.next_offset = self.next_offset, max(self.next_offset, end)
        if len(own) == end - begin:
            return []
        return sorted(set(range(begin, end)).difference(own))
