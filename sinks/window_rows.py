"""From blocks to rows of the table `windows`: one row per group, sketches as ClickHouse's states."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa

from clients.clickhouse.sketches import dd_states
from schemas.time import Micros
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import BlockKey

TABLE: Final = "windows"
_INSTANT: Final = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class WindowRows:
    """The rows of a block, and what they have in common."""

    key: BlockKey
    since: int
    offset: int
    revision: int
    version: int
    """Of the rows with the same key and `since`, those with the highest count."""
    closed: bool
    watermark: Micros
    rows: pa.Table
    """In the columns of `block.row_schema`."""


def tables(blocks: Sequence[WindowRows], timezone: ZoneInfo, written_at: Micros) -> Iterator[pa.Table]:
    """The blocks in the columns of the table: those with latencies, and those without."""
    by_grouping: dict[str, list[WindowRows]] = defaultdict(list)
    for block in blocks:
        if block.rows.num_rows:
            by_grouping[block.key.grouping].append(block)
    shapes: dict[tuple[str, ...], list[pa.Table]] = defaultdict(list)
    for grouping, members in by_grouping.items():
        table = _table(grouping, members, timezone, written_at)
        shapes[GROUPINGS[grouping].latencies].append(table)
    for alike in shapes.values():
        yield pa.concat_tables(alike).combine_chunks()


def _table(grouping: str, blocks: Sequence[WindowRows], timezone: ZoneInfo, written_at: Micros) -> pa.Table:
    rows = pa.concat_tables([block.rows for block in blocks]).combine_chunks()
    kind = GROUPINGS[grouping]
    keys = [rows.column(name).cast(pa.large_string()) for name in kind.keys]
    keys += [pa.array([""] * rows.num_rows, pa.large_string())] * (2 - len(keys))
    columns = {**_envelope(blocks, timezone, written_at), "key1": keys[0], "key2": keys[1]}
    columns |= {name: rows.column(name) for name in kind.sums}
    for name in kind.latencies:
        columns |= {
            f"{name}_{part}": rows.column(f"{name}_{part}") for part in ("count", "sum", "min", "max")
        }
        columns[f"{name}_sketch"] = dd_states(_flat(rows, f"{name}_keys"), _flat(rows, f"{name}_counts"))
    return pa.table(columns)


def _envelope(blocks: Sequence[WindowRows], timezone: ZoneInfo, written_at: Micros) -> dict[str, pa.Array]:
    starts = pl.Series([block.key.pane_start for block in blocks], dtype=pl.Int64).cast(_INSTANT)
    frame = pl.DataFrame(
        {
            "pane": [block.key.pane for block in blocks],
            "grouping": [block.key.grouping for block in blocks],
            "pane_start": starts.dt.cast_time_unit("ms"),
            "day": starts.dt.convert_time_zone(str(timezone)).dt.date(),
            "partition": pl.Series([block.key.partition for block in blocks], dtype=pl.Int32),
            "imported": [block.key.imported for block in blocks],
            "bucket": pl.Series([block.key.bucket for block in blocks], dtype=pl.Int32),
            "since": [block.since for block in blocks],
            "offset": [block.offset for block in blocks],
            "revision": pl.Series([block.revision for block in blocks], dtype=pl.Int32),
            "version": pl.Series([block.version for block in blocks], dtype=pl.UInt64),
            "closed": [block.closed for block in blocks],
            "watermark": pl.Series([block.watermark for block in blocks], dtype=pl.Int64).cast(_INSTANT),
        }
    ).with_columns(
        written_at=pl.lit(written_at, pl.Int64).cast(_INSTANT).dt.cast_time_unit("ms"),
    )
    repeated = frame[np.repeat(np.arange(len(blocks)), [block.rows.num_rows for block in blocks])]
    arrow = repeated.to_arrow(compat_level=pl.CompatLevel.oldest())
    return dict(zip(arrow.column_names, arrow.columns, strict=True))


def _flat(rows: pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
