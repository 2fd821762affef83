"""Closed panes as ClickHouse remembers them: one row per pane and group, all source partitions merged.

Minutes that were rebuilt from the raw events are read as rebuilt, as everybody reads them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from clients.clickhouse.sketches import dd_sketches
from schemas.time import DAY, HOUR, SECOND, Micros
from streams.alerts.history_client import read
from streams.alerts.judged import Question
from streams.catalogue.groupings import Grouping
from streams.catalogue.panes import JUDGED
from streams.windows.block import row_schema

_MOST_ROWS: Final = 50_000
"""Read at once, as far as panes are not larger: with sketches some 50 MB."""
_AT_A_TIME: Final = 30 * DAY
"""Of how long it is asked at once what there is …"""
_SECONDS_AT_A_TIME: Final = 6 * HOUR
"""… and of panes of seconds."""
_READING: Final = {"max_threads": 1}
_ORIGINS: Final = {"live": (0,), "imported": (1,), "all": (0, 1)}
ORIGINS: Final = tuple(_ORIGINS)


@dataclass(frozen=True)
class RecordedPane:
    """The rows of a pane, in the columns of `streams.windows.block.row_schema`."""

    start: Micros
    rows: pa.Table


@dataclass(frozen=True)
class RecordedSamples:
    """All samples of a state that occurred from `start` to `end` (excluded), in their order.

    `rows` has the columns that `sampling.Sampling.take` wants, but for the offsets.
    """

    start: Micros
    end: Micros
    rows: pl.DataFrame


class RecordedHistory:
    """The panes of a database, and what it knows of a rule's past. `include` says which requests are in the
    panes: live ones, imported ones, or all. Raises what clickhouse-connect raises."""

    def __init__(self, client: Client, zone: ZoneInfo, include: str = "live") -> None:
        self._client = client
        self._zone = zone
        self._origins = list(_ORIGINS[include])

    def answer(self, question: Question) -> pl.DataFrame:
        """The frame that answers it."""
        return read(self._client, question, self._zone)

    def panes(
        self,
        grouping: Grouping,
        pane: str,
        start: Micros,
        end: Micros,
        latencies: Sequence[str] = (),
    ) -> Iterator[RecordedPane]:
        """The panes (of `JUDGED`) from `start` to `end` (excluded) that have any rows, in order.

        Of the latencies those named are read; the others are as if nobody had reported them. Memory is
        bounded by the largest pane.
        """
        at_a_time = _SECONDS_AT_A_TIME if JUDGED[pane].live_only else _AT_A_TIME
        for begin in range(start, end, at_a_time):
            until = min(begin + at_a_time, end)
            for first, last in _runs(self._sizes(grouping, pane, begin, until)):
                table = self._read(grouping, pane, first, last + JUDGED[pane].length, latencies)
                yield from _cut(table, grouping, latencies)

    def samples(self, name: str, start: Micros, end: Micros) -> Iterator[RecordedSamples]:
        """The samples of a state from `start` to `end` (excluded), hour by hour."""
        for begin in range(start, end, HOUR):
            until = min(begin + HOUR, end)
            table = self._client.query_arrow(
                "SELECT service, instance, name, value, occurred_at FROM samples FINAL "
                "WHERE name = {name:String} AND has({origins:Array(UInt8)}, toUInt8(imported)) "
                "AND occurred_at >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
                "AND occurred_at < fromUnixTimestamp64Micro({end:Int64}, 'UTC') "
                "ORDER BY occurred_at, event_id",
                parameters={"name": name, "origins": self._origins, "start": begin, "end": until},
                settings=_READING,
                use_strings=True,
            )
            texts = pl.col("service", "instance", "name").cast(pl.String)
            rows = pl.DataFrame(table).with_columns(texts, imported=pl.lit(value=False))
            yield RecordedSamples(begin, until, rows)

    def bounds(
        self, grouping: Grouping, pane: str, start: Micros, end: Micros
    ) -> tuple[Micros, Micros] | None:
        """Start of the first pane and of the last one within a span of time; None when there is none."""
        rows = self._rows(
            "SELECT count(), toUnixTimestamp(min(w.pane_start)), "  # noqa: S608 - constants
            "toUnixTimestamp(max(w.pane_start)) "
            f"FROM window_rows AS w WHERE {_WHERE}",
            self._parameters(grouping, pane, start, end),
        )
        count, first, last = rows[0]
        return (first * SECOND, last * SECOND) if count else None

    def _sizes(self, grouping: Grouping, pane: str, start: Micros, end: Micros) -> list[tuple[Micros, int]]:
        """The panes that have rows, and at most how many."""
        rows = self._rows(
            f"SELECT {_AT} AS at, count() FROM windows AS w "  # noqa: S608
            f"WHERE {_WHERE} GROUP BY at ORDER BY at",
            self._parameters(grouping, pane, start, end),
        )
        return [(at * SECOND, count) for at, count in rows]

    def _read(
        self, grouping: Grouping, pane: str, start: Micros, end: Micros, latencies: Sequence[str]
    ) -> pa.Table:
        return self._client.query_arrow(
            query(grouping, latencies),
            parameters=self._parameters(grouping, pane, start, end),
            settings=_READING,
            use_strings=False,
        )

    def _rows(self, text: str, parameters: dict[str, Any]) -> Sequence[Sequence[Any]]:
        return self._client.query(text, parameters=parameters, settings=_READING).result_rows

    def _parameters(self, grouping: Grouping, pane: str, start: Micros, end: Micros) -> dict[str, Any]:
        return {
            "grouping": grouping.name,
            "pane": JUDGED[pane].stored,
            "length": JUDGED[pane].length // SECOND,
            "start": start // SECOND,
            "end": -(-end // SECOND),
            "origins": self._origins,
        }


_AT: Final = "intDiv(toUnixTimestamp(w.pane_start), {length:UInt32}) * {length:UInt32}"
_WHERE: Final = (
    "w.pane = {pane:String} AND w.grouping = {grouping:String} "
    "AND w.pane_start >= toDateTime({start:Int64}, 'UTC') AND w.pane_start < toDateTime({end:Int64}, 'UTC') "
    "AND has({origins:Array(UInt8)}, toUInt8(w.imported))"
)


def query(grouping: Grouping, latencies: Sequence[str]) -> str:
    """What is asked for the rows: `at` (seconds), keys, sums, and of each latency its figures and state."""
    figures = [f"sum(w.{name}) AS {name}" for name in grouping.sums]
    for name in _kept(grouping, latencies):
        figures += [f"sum(w.{name}_{part}) AS {name}_{part}" for part in ("count", "sum")]
        figures += [f"min(w.{name}_min) AS {name}_min", f"max(w.{name}_max) AS {name}_max"]
        # As text and back: a state itself has no place in Arrow.
        figures.append(
            f"unhex(hex(quantilesDDMergeState(0.01, 0.5, 0.95, 0.99)(w.{name}_sketch))) AS {name}_sketch"
        )
    return (
        f"SELECT {_AT} AS at, w.key1 AS k1, w.key2 AS k2, "  # noqa: S608 - constants
        f"{', '.join(figures)} FROM window_rows AS w WHERE {_WHERE} GROUP BY at, k1, k2 ORDER BY at, k1, k2"
    )


def _kept(grouping: Grouping, latencies: Sequence[str]) -> list[str]:
    return [name for name in grouping.latencies if name in latencies]


def _runs(sizes: Sequence[tuple[Micros, int]]) -> Iterator[tuple[Micros, Micros]]:
    """First and last of those panes that are read together."""
    first, gathered = None, 0
    previous = 0
    for at, count in sizes:
        if first is not None and gathered + count > _MOST_ROWS:
            yield first, previous
            first, gathered = None, 0
        first = at if first is None else first
        gathered += count
        previous = at
    if first is not None:
        yield first, previous


def _cut(table: pa.Table, grouping: Grouping, latencies: Sequence[str]) -> Iterator[RecordedPane]:
    table = table.combine_chunks()
    starts = table.column("at").to_numpy().astype(np.int64)
    rows = _shaped(table, grouping, latencies)
    begins = np.flatnonzero(np.diff(starts, prepend=starts[:1] - 1))
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(starts)], strict=True):
        yield RecordedPane(int(starts[begin]) * SECOND, rows.slice(begin, end - begin))


def _shaped(table: pa.Table, grouping: Grouping, latencies: Sequence[str]) -> pa.Table:
    """The answer in the columns of `row_schema`."""
    schema = row_schema(grouping)
    count = table.num_rows
    columns: dict[str, Any] = {name: table.column(f"k{place}") for place, name in enumerate(grouping.keys, 1)}
    read = _kept(grouping, latencies)
    for name in read:
        states = table.column(f"{name}_sketch").combine_chunks()
        if isinstance(states, pa.ChunkedArray):
            states = pa.concat_arrays(states.chunks) if states.num_chunks else pa.array([], pa.binary())
        columns[f"{name}_keys"], columns[f"{name}_counts"] = dd_sketches(states)
    filled = []
    for field in schema:
        if field.name in columns:
            column = columns[field.name]
        elif field.name in table.column_names:
            column = table.column(field.name)
        elif pa.types.is_list(field.type):
            column = pa.ListArray.from_arrays(
                pa.array(np.zeros(count + 1, np.int32)), pa.array([], field.type.value_type)
            )
        elif field.nullable:
            column = pa.nulls(count, field.type)
        else:
            column = pa.array(np.zeros(count, np.int64))
        filled.append(column.cast(field.type))
    return pa.table(filled, schema=schema)
