"""Which window blocks are to be written, and when.

Blocks are whole, so the newest of an identity stands for all before it. A closed pane's block is
written at once; an open one's at most every so often, and is held back until then. A held block's
record must stay uncommitted, or a restart would miss it.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final, NamedTuple

from sinks.writer import Assignment
from streams.windows.block import Block, BlockKey

_REVISION_BITS: Final = 15


class Identity(NamedTuple):
    """What a block replaces. One born after its predecessor was expired has a later `since`."""

    key: BlockKey
    since: int


def version(block: Block) -> int:
    """Orders the states of an identity: by offset, then revision, then open before closed."""
    revision = min(block.revision, 2**_REVISION_BITS - 1)
    return (max(block.offset, 0) << _REVISION_BITS | revision) << 1 | block.closed


@dataclass(frozen=True)
class Arrival:
    """A block, and the record that brought it."""

    assignment: Assignment
    offset: int
    block: Block


class Coalescing:
    """Holds back blocks of open panes. Pure: `now` is any monotonic clock, in seconds."""

    def __init__(self, open_pane_interval: float) -> None:
        self._interval = open_pane_interval
        self._held: dict[Identity, Arrival] = {}
        self._written: dict[Identity, float] = {}
        self.folded = 0
        """Blocks not written because a newer one was, or will be."""

    def add(self, arrival: Arrival) -> None:
        """Takes the place of what it replaces."""
        identity = Identity(arrival.block.key, arrival.block.since)
        earlier = self._held.get(identity)
        if earlier is not None:
            self.folded += 1
            if version(earlier.block) > version(arrival.block):
                return
        self._held[identity] = arrival

    def forget_all_but(self, assignments: Set[Assignment]) -> None:
        """Drops what other assignments brought: whoever has those partitions now reads it again."""
        if any(arrival.assignment not in assignments for arrival in self._held.values()):
            self._held = {
                k: arrival for k, arrival in self._held.items() if arrival.assignment in assignments
            }

    def due(self, now: float, *, everything: bool = False) -> list[Arrival]:
        """Takes out what is to be written now."""
        ready = [
            identity
            for identity, arrival in self._held.items()
            if everything or arrival.block.closed or self._is_due(identity, now)
        ]
        arrivals = [self._held.pop(identity) for identity in ready]
        for identity, arrival in zip(ready, arrivals, strict=True):
            if arrival.block.closed:
                self._written.pop(identity, None)
            else:
                self._written[identity] = now
        if len(self._written) > 2 * len(self._held) + 1_000:
            self._written = {k: at for k, at in self._written.items() if at + self._interval > now}
        return arrivals

    def _is_due(self, identity: Identity, now: float) -> bool:
        written = self._written.get(identity)
        return written is None or now >= written + self._interval

    def first_held(self, assignments: Iterable[Assignment]) -> dict[Assignment, int]:
        """Per assignment, the offset of the earliest record still held back."""
        first: dict[Assignment, int] = {}
        wanted = set(assignments)
        for arrival in self._held.values():
            if arrival.assignment in wanted:
                first[arrival.assignment] = min(arrival.offset, first.get(arrival.assignment, arrival.offset))
        return first
