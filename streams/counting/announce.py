"""What is sent to `chat.closed`: a partition's share of closed panes, and its watermark."""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import Micros
from streams.windows.block import pack_rows
from streams.windows.step import ClosedRows

_CODEC: Final = Codec(schema("ClosedPane"))


def target(grouping: str, keys: Iterable[str], targets: int) -> int:
    """The partition of `chat.closed` in which all shares of a group meet."""
    return zlib.crc32("\0".join((grouping, *keys)).encode()) % targets


def shares(
    closed: ClosedRows, table: str, partition: int, partitions: int, watermark: Micros, offset: int
) -> Iterator[tuple[int, bytes, bytes]]:
    """A closed pane's rows, as messages (partition, key, value) to `chat.closed`."""
    grouping = closed.grouping.name
    columns = [closed.rows[name].to_pylist() for name in closed.grouping.keys]
    groups: Iterable[tuple[str, ...]] = zip(*columns, strict=True) if columns else [()] * closed.rows.num_rows
    targets = np.array([target(grouping, group, partitions) for group in groups], dtype=np.int64)
    rows = closed.rows.combine_chunks()
    for to in np.unique(targets).tolist():
        mine = targets == to
        share = rows if mine.all() else rows.filter(pa.array(mine))
        value = _CODEC.encode(
            {
                "table": table,
                "partition": partition,
                "partitions": partitions,
                "watermark": watermark,
                "offset": offset,
                "pane": closed.pane,
                "pane_start": closed.pane_start,
                "pane_end": closed.pane_end,
                "grouping": grouping,
                "rows": pack_rows(share),
                "since": closed.since,
                "revision": closed.revision,
            }
        )
        yield to, f"{grouping}|{partition}".encode(), value


def heartbeat(
    table: str, partition: int, partitions: int, watermark: Micros, offset: int
) -> tuple[bytes, bytes]:
    """A watermark alone, as a message (key, value) for every partition of `chat.closed`."""
    value = _CODEC.encode(
        {
            "table": table,
            "partition": partition,
            "partitions": partitions,
            "watermark": watermark,
            "offset": offset,
        }
    )
    return f"|{partition}".encode(), value
