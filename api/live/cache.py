"""Merged rows of spans of time, kept until a block inside changes.

Panes are merged in a tree (1 s into 10 s into 1 min, say: `PaneLength.spans`), so that a long window is put
together from a few nodes, of which only those with a changed block are merged anew.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

import pyarrow as pa

from schemas.time import Micros
from streams.catalogue.panes import LIVE

_OVERHEAD: Final = 1_024
"""Bytes that an entry takes beside its rows; it bounds the number of empty ones too."""


class Node(NamedTuple):
    """A span of time of one grouping."""

    pane: str
    length: Micros
    start: Micros
    grouping: str
    imported: bool


class MergeCache:
    """Merged rows by node, least recently used out first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._merged: OrderedDict[Node, pa.Table] = OrderedDict()
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    def get(self, node: Node) -> pa.Table | None:
        """The node's rows, or None when they must be merged."""
        merged = self._merged.get(node)
        if merged is not None:
            self._merged.move_to_end(node)
        return merged

    def put(self, node: Node, merged: pa.Table) -> None:
        """Keep the node's rows."""
        self._drop(node)
        self._merged[node] = merged
        self._bytes += merged.nbytes + _OVERHEAD
        while self._bytes > self._max_bytes:
            _, oldest = self._merged.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD

    def changed(self, pane: str, start: Micros, grouping: str, imported: bool) -> None:
        """A block of this pane has changed: forget every node above it."""
        for length in LIVE[pane].spans:
            self._drop(Node(pane, length, start - start % length, grouping, imported))

    def _drop(self, node: Node) -> None:
        merged = self._merged.pop(node, None)
        if merged is not None:
            self._bytes -= merged.nbytes + _OVERHEAD
