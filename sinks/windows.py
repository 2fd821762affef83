"""`chat.windows` and `chat.usage` into `windows`: one row per row of a block, sketches as states."""

import logging
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
import zstandard

from schemas.errors import RefusedError
from schemas.topics import Topic
from sinks.folding import Arrival, Folding, version
from sinks.metrics import SinkMetrics
from sinks.records import Clock
from sinks.sketches import dd_states
from sinks.writer import Fetch, Insert, KafkaRecord, Step, Tenure
from streams.windows.block import Block, read_block, row_schema
from streams.windows.measures import GROUPINGS

TABLE: Final = "windows"
_INSTANT: Final = pl.Datetime("us", "UTC")
_LOG: Final = logging.getLogger(__name__)


class WindowWriter:
    """Writes the newest state of each block. A restart reads again from the first one held back.

    That is harmless: in ClickHouse the newest version of a row replaces the others.
    """

    table = TABLE
    stores_every_offset = False

    def __init__(
        self,
        topic: Topic,
        clock: Clock,
        metrics: SinkMetrics,
        *,
        open_pane_interval: timedelta,
        timezone: ZoneInfo,
        max_rows: int,
    ) -> None:
        self._topic = topic
        self._clock = clock
        self._metrics = metrics
        self._timezone = timezone
        self._max_rows = max_rows
        self._folding = Folding(open_pane_interval.total_seconds())
        self._next: dict[Tenure, int] = {}

    def take(
        self, fetches: Sequence[Fetch], held: frozenset[Tenure], now: float, *, last: bool = False
    ) -> Step:
        """See `sinks.writer.Writer`."""
        self._folding.forget_all_but(held)
        self._next = {tenure: offset for tenure, offset in self._next.items() if tenure in held}
        folded = self._folding.folded
        for fetch in fetches:
            for record in fetch.records:
                block = self._read(fetch.partition, record)
                if block is not None:
                    self._folding.add(Arrival(fetch.tenure, record.offset, block))
            self._next[fetch.tenure] = fetch.next_offset
        self._metrics.blocks_folded.labels(self._topic.name).inc(self._folding.folded - folded)
        blocks = self._folding.due(now, everything=last)
        positions = {**self._next, **self._folding.first_held(self._next)}
        return Step((), self._inserts(blocks), positions)

    def _read(self, partition: int, record: KafkaRecord) -> Block | None:
        if record.value is None:
            self._metrics.tombstones.labels(self._topic.name).inc()
            return None
        try:
            block = read_block(record.value)
            if block.key.grouping not in GROUPINGS:
                raise ValueError(f"no grouping is called {block.key.grouping!r}")
            if not set(GROUPINGS[block.key.grouping].keys) <= set(block.rows.column_names):
                raise ValueError(f"its rows have the columns {block.rows.column_names}")
        except (RefusedError, ValueError, pa.ArrowException, zstandard.ZstdError) as error:
            reason = error.reason.value if isinstance(error, RefusedError) else "malformed"
            self._metrics.unreadable.labels(self._topic.name, reason).inc()
            _LOG.error("%s/%d@%d: %s", self._topic.name, partition, record.offset, error)
            return None
        return block

    def _inserts(self, blocks: Sequence[Block]) -> list[Insert]:
        shapes: dict[tuple[str, ...], list[pa.Table]] = defaultdict(list)
        by_grouping: dict[str, list[Block]] = defaultdict(list)
        for block in blocks:
            if block.rows.num_rows:
                by_grouping[block.key.grouping].append(block)
        for grouping, members in by_grouping.items():
            shapes[GROUPINGS[grouping].latencies].append(self._rows(grouping, members))
        return [
            # A token of its own: the same blocks are never gathered in the same way again.
            Insert(TABLE, rows.slice(start, self._max_rows), f"{self._topic.name}/{uuid.uuid4()}")
            for tables in shapes.values()
            for rows in [pa.concat_tables(tables).combine_chunks()]
            for start in range(0, rows.num_rows, self._max_rows)
        ]

    def _rows(self, grouping: str, blocks: Sequence[Block]) -> pa.Table:
        """The blocks' rows, in the columns of the table."""
        rows = pa.concat_tables([_conform(block.rows, grouping) for block in blocks]).combine_chunks()
        kind = GROUPINGS[grouping]
        keys = [rows.column(name).cast(pa.large_string()) for name in kind.keys]
        keys += [pa.array([""] * rows.num_rows, pa.large_string())] * (2 - len(keys))
        columns = {**self._envelope(blocks), "key1": keys[0], "key2": keys[1]}
        columns |= {name: rows.column(name) for name in kind.sums}
        for name in kind.latencies:
            columns |= {
                f"{name}_{part}": rows.column(f"{name}_{part}") for part in ("count", "sum", "min", "max")
            }
            columns[f"{name}_sketch"] = dd_states(_flat(rows, f"{name}_keys"), _flat(rows, f"{name}_counts"))
        return pa.table(columns)

    def _envelope(self, blocks: Sequence[Block]) -> dict[str, pa.Array]:
        starts = pl.Series([block.key.pane_start for block in blocks], dtype=pl.Int64).cast(_INSTANT)
        frame = pl.DataFrame(
            {
                "pane": [block.key.pane for block in blocks],
                "grouping": [block.key.grouping for block in blocks],
                "pane_start": starts.dt.cast_time_unit("ms"),
                "day": starts.dt.convert_time_zone(str(self._timezone)).dt.date(),
                "partition": pl.Series([block.key.partition for block in blocks], dtype=pl.Int32),
                "imported": [block.key.imported for block in blocks],
                "bucket": pl.Series([block.key.bucket for block in blocks], dtype=pl.Int32),
                "since": [block.since for block in blocks],
                "offset": [block.offset for block in blocks],
                "revision": pl.Series([block.revision for block in blocks], dtype=pl.Int32),
                "version": pl.Series([version(block) for block in blocks], dtype=pl.UInt64),
                "closed": [block.closed for block in blocks],
                "watermark": pl.Series([block.watermark for block in blocks], dtype=pl.Int64).cast(_INSTANT),
            }
        ).with_columns(
            written_at=pl.lit(self._clock(), pl.Int64).cast(_INSTANT).dt.cast_time_unit("ms"),
        )
        repeated = frame[np.repeat(np.arange(len(blocks)), [block.rows.num_rows for block in blocks])]
        arrow = repeated.to_arrow(compat_level=pl.CompatLevel.oldest())
        return dict(zip(arrow.column_names, arrow.columns, strict=True))


def _conform(rows: pa.Table, grouping: str) -> pa.Table:
    """The columns of this version: a block of another may lack some, or have more."""
    wanted = row_schema(GROUPINGS[grouping])
    if rows.schema.equals(wanted):
        return rows
    columns = []
    for column in wanted:
        if column.name in rows.column_names:
            columns.append(rows.column(column.name).cast(column.type))
        elif pa.types.is_integer(column.type) and not column.nullable:
            columns.append(pa.array(np.zeros(rows.num_rows, np.int64)))
        else:
            columns.append(pa.nulls(rows.num_rows, column.type))
    return pa.table(columns, schema=wanted)


def _flat(rows: pa.Table, name: str) -> pa.Array:
    column = rows.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
