"""The table of window blocks, and its recovery: a fetch at a time, and the newest block of each key.

Faust recovers an entry at a time, and the last one written wins. A day of panes is hundreds of thousands
of entries; and a worker that was stopped and wakes after its partition has moved may write, last of all,
a block that is out of date.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, cast

import faust
import numpy as np
from faust.types import EventT

from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.time import Micros
from streams.windows.block import BlockKey

_READ_AT_ONCE: Final = 20_000


class Head(NamedTuple):
    """A block but for its rows."""

    key: BlockKey
    pane_end: Micros
    offset: int
    revision: int
    closed: bool
    watermark: Micros
    remembers_from: int

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Of two blocks of a key the one of higher rank is newer."""
        return self.offset, self.revision, self.closed


_COLUMNS: Final = ("pane_end", "offset", "revision", "closed", "watermark", "remembers_from")


_READER: Final = ColumnarReader(schema("WindowBlock"), _COLUMNS)


def read_heads(entries: Sequence[tuple[bytes, bytes]]) -> Iterator[Head]:
    """The heads of entries (key, value), read in columns. Raises SchemaError for what is no block."""
    for begin in range(0, len(entries), _READ_AT_ONCE):
        some = entries[begin : begin + _READ_AT_ONCE]
        batch = _READER.read([value for _, value in some], np.arange(len(some)))
        for refusal in batch.refused:
            raise SchemaError(f"the window block {some[refusal.index][0]!r}: {refusal.detail}")
        columns = [batch.frame[name].to_physical().to_list() for name in _COLUMNS]
        for (key, _), *rest in zip(some, *columns, strict=True):
            yield Head(BlockKey.decode(key), *rest)


class WindowTable(faust.Table[bytes, bytes]):
    """Blocks by their encoded key. Its changelog is read by the fetch (`streams.runtime.transport`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recovered: dict[bytes, Head] = {}
        self._overwritten: set[bytes] = set()

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Take up fetches of the changelog."""
        for event in batch:
            self._apply(cast("Sequence[Any]", event.value))

    def _apply(self, records: Sequence[Any]) -> None:
        data, recovered = self.data, self._recovered
        entries = [(record.key, record.value) for record in records]
        self._read_unread(key for key, value in entries if value is not None)
        heads = read_heads([entry for entry in entries if entry[1] is not None])
        for key, value in entries:
            if value is None:
                data.pop(key, None)
                recovered.pop(key, None)
                self._overwritten.discard(key)
                continue
            head, known = next(heads), recovered.get(key)
            if known is None or head.rank >= known.rank:
                data[key] = value
                recovered[key] = head
                self._overwritten.discard(key)
            else:
                self._overwritten.add(key)

    def _read_unread(self, keys: Iterable[bytes]) -> None:
        """Know the heads of the blocks that were there before this recovery."""
        unread = [(key, self.data[key]) for key in keys if key in self.data and key not in self._recovered]
        if unread:
            heads = read_heads(unread)
            self._recovered |= {key: head for (key, _), head in zip(unread, heads, strict=True)}

    def heads(self, partitions: frozenset[int]) -> list[Head]:
        """What is recovered of these partitions; blocks of all others are dropped.

        Raises SchemaError for what is no block.
        """
        self._read_unread(self.data)
        recovered, self._recovered = self._recovered, {}
        for key, head in recovered.items():
            if head.key.partition not in partitions:
                del self.data[key]
        return [head for head in recovered.values() if head.key.partition in partitions]

    def overwritten(self) -> set[bytes]:
        """The keys of blocks after which, in the changelog, one that is out of date lies; told once."""
        found, self._overwritten = self._overwritten, set()
        return found & self.data.keys()
