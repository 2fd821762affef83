"""Blocks but for their rows: what has to be known of each when the state is taken up."""

import logging
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.time import Micros
from streams.windows.block import BlockKey

log = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 20_000
_COLUMNS: Final = ("pane_end", "offset", "revision", "closed", "watermark", "remembers_from")
_READER: Final = ColumnarReader(schema("WindowBlock"), _COLUMNS)


class Head(NamedTuple):
    """A block but for its rows."""

    key: BlockKey
    pane_end: Micros
    offset: int
    revision: int
    closed: bool
    watermark: Micros
    remembers_from: int


def read_heads(blocks: Mapping[bytes, bytes]) -> Iterator[Head]:
    """The heads of encoded blocks by encoded key. What is no block is named in the log, and left out."""
    entries = []
    for key, value in blocks.items():
        try:
            entries.append((BlockKey.decode(key), value))
        except ValueError as error:
            log.error("the entry %r is no window block, and is left alone: %s", key, error)
    for begin in range(0, len(entries), _READ_AT_ONCE):
        some = entries[begin : begin + _READ_AT_ONCE]
        batch = _READER.read([value for _, value in some], np.arange(len(some)))
        for refusal in batch.refused:
            where = some[refusal.index][0].encode()
            log.error("the window block %r can't be read, and is left alone: %s", where, refusal.detail)
        columns = [batch.frame[name].to_physical().to_list() for name in _COLUMNS]
        for index, *rest in zip(batch.indices.tolist(), *columns, strict=True):
            yield Head(some[index][0], *rest)
