"""The ids of deliveries that are over, so that a notification told twice is delivered once.

Compact: 8 bytes an id, in blocks of a few thousand that are entries of the state. An id is forgotten when
notifications made so much later have come (by their own time: however long this was stopped, what comes
again afterwards is still known), or when there are too many; those that were forgotten early are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.time import Micros

_PREFIX: Final = b"m"
_BLOCK: Final = 4096
_TIME: Final = 8


class Over(NamedTuple):
    """A delivery that is over: what of it is remembered."""

    digest: int
    created_at: Micros


class Fold(NamedTuple):
    """What is to be written, and then what may be deleted, to remember some ids in a compact way."""

    blocks: dict[bytes, bytes | None]
    """Entries: blocks of ids; None for one that is forgotten."""
    folded: Sequence[Over]


@dataclass(slots=True)
class _Block:
    number: int
    newest: Micros
    digests: npt.NDArray[np.uint64]
    """Sorted."""

    @property
    def key(self) -> bytes:
        return _PREFIX + b"%010d" % self.number

    def pack(self) -> bytes:
        return self.newest.to_bytes(_TIME, "little", signed=True) + self.digests.astype("<u8").tobytes()


def is_block(key: bytes) -> bool:
    """Whether it is the key of a block of ids."""
    return key.startswith(_PREFIX)


class Remembered:
    """Of one partition. `keep` is for how long, `most` how many ids."""

    def __init__(self, keep: Micros, most: int) -> None:
        self._keep = keep
        self._most = most
        self._blocks: list[_Block] = []
        self._loose: dict[int, Micros] = {}
        """Over, and not in a block yet."""
        self._newest: Micros = 0
        self.forgotten_early = 0

    def __len__(self) -> int:
        return len(self._loose) + sum(len(block.digests) for block in self._blocks)

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take up the blocks among these entries."""
        for key, packed in entries.items():
            if is_block(key):
                newest = int.from_bytes(packed[:_TIME], "little", signed=True)
                digests = np.frombuffer(packed[_TIME:], dtype="<u8").astype(np.uint64)
                self._blocks.append(_Block(int(key[len(_PREFIX) :]), newest, digests))
        self._blocks.sort(key=lambda block: block.number)
        self._newest = max((block.newest for block in self._blocks), default=self._newest)

    def knows(self, digests: Sequence[int]) -> list[bool]:
        """Of each, whether it is remembered."""
        asked = np.array(digests, dtype=np.uint64)
        order = np.argsort(asked)
        ordered, found = asked[order], np.zeros(len(asked), dtype=np.bool_)
        for block in self._blocks:
            places = np.searchsorted(block.digests, ordered)
            places[places == len(block.digests)] = 0
            found |= block.digests[places] == ordered
        known = np.empty_like(found)
        known[order] = found
        return [yes or digest in self._loose for yes, digest in zip(known.tolist(), digests, strict=True)]

    def add(self, over: Over, now: Micros) -> None:
        """One is over."""
        # What claims to come from the future must not make us forget the present.
        self._newest = max(self._newest, min(over.created_at, now))
        self._loose[over.digest] = over.created_at

    def fold(self, ready: Sequence[Over]) -> Fold:
        """Put those that are `ready` into blocks, and forget what is old. Write what this returns.

        They have been `add`ed.
        """
        changed: dict[int, _Block] = {}
        left = [each.digest for each in ready]
        while left:
            last = self._blocks[-1] if self._blocks else None
            if last is None or len(last.digests) >= _BLOCK:
                last = _Block(last.number + 1 if last else 0, 0, np.empty(0, np.uint64))
                self._blocks.append(last)
            room = _BLOCK - len(last.digests)
            taken, left = left[:room], left[room:]
            last.digests = np.union1d(last.digests, np.array(taken, dtype=np.uint64))
            last.newest = max(last.newest, self._newest)
            changed[last.number] = last
        for each in ready:
            self._loose.pop(each.digest, None)
        entries: dict[bytes, bytes | None] = {block.key: block.pack() for block in changed.values()}
        return Fold(entries | self._forget(), ready)

    def _forget(self) -> dict[bytes, bytes | None]:
        gone: dict[bytes, bytes | None] = {}
        while self._blocks:
            first = self._blocks[0]
            old = first.newest < self._newest - self._keep
            if not old and len(self) <= self._most:
                break
            if len(self._blocks) == 1 and not old:
                break  # the one that is being filled
            self.forgotten_early += 0 if old else len(first.digests)
            gone[first.key] = None
            self._blocks.pop(0)
        return gone
