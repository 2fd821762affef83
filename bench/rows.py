"""Notes when which rows are to be seen in ClickHouse, by asking again and again."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import polars as pl
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings

_EVENTS = """
SELECT _partition, max(_offset) FROM events
WHERE occurred_at > now64(6) - INTERVAL 30 SECOND GROUP BY _partition
"""
_MINUTES = """
SELECT partition, toUnixTimestamp(pane_start), max(offset), max(closed) FROM windows
WHERE pane = '1m' AND grouping = 'total' AND partition >= 0 AND pane_start > now() - INTERVAL 5 MINUTE
GROUP BY partition, pane_start
"""
_EVERY_S = 0.25
_ROWS = {"read_at": pl.Int64, "partition": pl.Int32, "pane_start": pl.Int64, "offset": pl.Int64}


class RowWatch:
    """Watches the raw events and the minutes, in a thread of its own, between `with` and its end."""

    minutes_every_s = 0.5

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._ended = threading.Event()
        self._events: list[tuple[int, int, int]] = []
        self._minutes: list[tuple[int, int, int, int, bool]] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="rows")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def events(self) -> pl.DataFrame:
        """read_at, partition, offset: up to there, every event had a row."""
        seen = pl.DataFrame(
            self._events, schema=["read_at", "partition", "offset"], orient="row", infer_schema_length=None
        )
        return seen.with_columns(pl.col("partition").cast(pl.Int32))

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether the minutes count everything: all of each partition, up to its end."""
        latest: dict[int, int] = {}
        for _, partition, _, offset, _ in self._minutes:
            latest[partition] = max(offset, latest.get(partition, -1))
        return all(latest.get(partition, -1) >= end - 1 for partition, end in ends.items())

    def open_minutes(self) -> pl.DataFrame:
        """read_at, partition, pane_start, offset: up to there, the minute's row counted."""
        return pl.DataFrame([row[:4] for row in self._minutes], schema=_ROWS, orient="row")

    def closed_minutes(self) -> pl.DataFrame:
        """When each minute of each partition was first seen closed."""
        closed = pl.DataFrame([row[:4] for row in self._minutes if row[4]], schema=_ROWS, orient="row")
        return closed.group_by("partition", "pane_start").agg(pl.col("read_at").min())

    def _watch(self) -> None:
        try:
            with connect(self._settings) as client:
                due = time.monotonic()
                minutes_due = due
                while not self._ended.is_set():
                    self._look_at_events(client)
                    if time.monotonic() >= minutes_due:
                        self._look_at_minutes(client)
                        minutes_due = time.monotonic() + self.minutes_every_s
                    due = max(due + _EVERY_S, time.monotonic())
                    self._ended.wait(due - time.monotonic())
        except BaseException as failure:  # told to whoever waits for the figures
            self._failure = failure

    def _look_at_events(self, client: Client) -> None:
        rows = client.query(_EVENTS).result_rows
        read_at = time.time_ns() // 1000
        self._events += [(read_at, partition, offset) for partition, offset in rows]

    def _look_at_minutes(self, client: Client) -> None:
        rows = client.query(_MINUTES).result_rows
        read_at = time.time_ns() // 1000
        self._minutes += [
            (read_at, partition, start * 1_000_000, offset, bool(closed))
            for partition, start, offset, closed in rows
        ]
