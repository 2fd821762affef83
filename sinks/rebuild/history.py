"""What a rebuild asks of ClickHouse, and writes there."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from schemas.time import MINUTE, SECOND, Micros
from sinks import window_rows
from sinks.rebuild.counting import COLUMNS
from sinks.rebuild.minutes import SETTLED_AFTER, Evidence
from sinks.window_rows import WindowRows

# A rebuild is never urgent: it leaves the other core to inserts and questions.
_READING: Final = {"max_threads": 1, "do_not_merge_across_partitions_select_final": 0}
_WRITING: Final = {"async_insert": 0, "max_partitions_per_insert_block": 0}
_MOST_ROWS: Final = 100_000
_MOST_WAITING: Final = 100_000
SETTLED: Final = f"minute <= now() - {(SETTLED_AFTER + MINUTE) // SECOND}"
"""Which minutes ended long enough ago, in SQL."""


@dataclass(frozen=True)
class Waiting:
    """A minute that should be rebuilt."""

    minute: Micros
    stored_at: Micros
    """When the last record of it was stored."""
    quiet: float
    """How many seconds ago that was."""


class History:
    """Raw events, what is known of them by minute, and windows; `timezone` is where a day begins."""

    def __init__(self, client: Client, timezone: ZoneInfo, events_days: int) -> None:
        self._client = client
        self._timezone = timezone
        self._events_days = events_days

    def waiting(self) -> list[Waiting]:
        """Minutes with late or imported events, and rebuilt ones of which more events have come since.

        Of a minute rebuilt within the last hour the records are counted, since statements that overlap
        may store in another order than they began; later the time alone tells.
        """
        rows = self._rows(
            f"""
            WITH rebuilt AS (SELECT * FROM rebuilt_minutes FINAL),
                fresh AS (SELECT minute FROM rebuilt WHERE rebuilt_at > now() - 3600)
            SELECT toUnixTimestamp(minute), toUnixTimestamp64Micro(a.last_stored), now64(6) - a.last_stored
            FROM
            (
                SELECT minute, max(late) AS is_late, max(stored_at) AS last_stored
                FROM arrivals WHERE {SETTLED} GROUP BY minute
            ) AS a
            LEFT JOIN rebuilt AS r USING (minute)
            LEFT JOIN
            (
                SELECT minute, sum(by_partition) AS now_there
                FROM
                (
                    SELECT minute, groupBitmapMerge(offsets) AS by_partition
                    FROM arrivals WHERE minute IN fresh GROUP BY minute, _partition
                )
                GROUP BY minute
            ) AS f USING (minute)
            WHERE if(
                r.generation = 0,
                a.is_late = 1,
                a.last_stored > r.stored_at OR (f.now_there != 0 AND f.now_there != r.records)
            )
            ORDER BY minute
            LIMIT {_MOST_WAITING}"""  # noqa: S608 - constants
        )
        return [Waiting(minute * SECOND, stored, float(quiet)) for minute, stored, quiet in rows]

    def minutes_between(self, start: Micros, end: Micros) -> tuple[list[Micros], int]:
        """Minutes of a span of time that have any request; and how many more ended too recently."""
        rows = self._rows(
            f"""
            SELECT toUnixTimestamp(minute), {SETTLED}
            FROM
            (
                SELECT minute FROM arrivals
                UNION DISTINCT
                SELECT pane_start FROM windows WHERE pane = '1m' AND grouping = 'total'
            )
            WHERE minute >= toDateTime({{start:Int64}}, 'UTC') AND minute < toDateTime({{end:Int64}}, 'UTC')
            ORDER BY minute""",  # noqa: S608 - constants
            start=start // SECOND,
            end=end // SECOND,
        )
        settled = [minute * SECOND for minute, is_settled in rows if is_settled]
        return settled, len(rows) - len(settled)

    def oldest_day(self) -> date:
        """The first day of arrival of which all raw events are kept for an hour at least."""
        days = self._rows("SELECT toDate(now('UTC') + 3600) - {days:Int64}", days=self._events_days - 1)
        found: date = days[0][0]
        return found

    def evidence(self, minutes: Sequence[Micros]) -> list[Evidence]:
        """What there is of each minute, ascending. Whatever comes later is not in it."""
        wanted = [minute // SECOND for minute in sorted(minutes)]
        # As text: parameters go into the URL, which may not be long.
        listed = ", ".join(map(str, wanted))
        rebuilt = self._rows(
            "SELECT toUnixTimestamp(minute), generation FROM rebuilt_minutes FINAL "  # noqa: S608 - numbers
            f"WHERE minute IN ({listed})"
        )
        generations: dict[int, int] = {minute: generation for minute, generation in rebuilt}  # noqa: C416
        arrived: dict[int, dict[int, int]] = defaultdict(dict)
        stored: dict[int, int] = {}
        days: dict[int, set[date]] = defaultdict(set)
        for minute, partition, records, last, on in self._rows(
            "SELECT toUnixTimestamp(minute), _partition, groupBitmapMerge(offsets), "  # noqa: S608 - numbers
            "toUnixTimestamp64Micro(max(stored_at)), groupUniqArray(day) "
            f"FROM arrivals WHERE minute IN ({listed}) GROUP BY minute, _partition"
        ):
            arrived[minute][partition] = records
            stored[minute] = max(last, stored.get(minute, 0))
            days[minute].update(on)
        counted: dict[int, dict[int, int]] = defaultdict(dict)
        for minute, partition, requests in self._rows(
            "SELECT toUnixTimestamp(pane_start), partition, sum(requests) FROM windows FINAL "  # noqa: S608
            "WHERE pane = '1m' AND grouping = 'total' AND partition >= 0 "
            f"AND pane_start IN ({listed}) GROUP BY pane_start, partition"
        ):
            counted[minute][partition] = requests
        there = self._days_there(wanted)
        return [
            Evidence(
                minute * SECOND,
                generations.get(minute, 0),
                stored.get(minute, 0),
                arrived[minute],
                counted[minute],
                frozenset(days[minute]),
                there.get(minute, frozenset()),
            )
            for minute in wanted
        ]

    def _days_there(self, minutes: Sequence[int]) -> dict[int, frozenset[date]]:
        found: dict[int, frozenset[date]] = {}
        for start, end in _runs(minutes):
            rows = self._rows(
                "SELECT toUnixTimestamp(toStartOfMinute(occurred_at)) AS minute, "
                "groupUniqArray(toDate(arrived_at)) FROM events "
                "WHERE occurred_at >= toDateTime64({start:Int64}, 6, 'UTC') "
                "AND occurred_at < toDateTime64({end:Int64}, 6, 'UTC') AND phase = 'finished' "
                "GROUP BY minute",
                start=start,
                end=end,
            )
            found |= {minute: frozenset(days) for minute, days in rows}
        return found

    def read(self, start: Micros, end: Micros) -> pa.Table:
        """The finished requests of a span of time, each once, in the columns of `counting.COLUMNS`."""
        return self._client.query_arrow(
            f"SELECT {', '.join(COLUMNS)} FROM events FINAL "  # noqa: S608 - constants
            "WHERE occurred_at >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
            "AND occurred_at < fromUnixTimestamp64Micro({end:Int64}, 'UTC') AND phase = 'finished'",
            parameters={"start": start, "end": end},
            settings=_READING,
        )

    def write(self, rows: Sequence[WindowRows], now: Micros) -> None:
        """Writes rebuilt rows. They do not count before the minutes are switched over."""
        for table in window_rows.tables(rows, self._timezone, now):
            for start in range(0, table.num_rows, _MOST_ROWS):
                self._client.insert_arrow(
                    window_rows.TABLE, table.slice(start, _MOST_ROWS), settings=_WRITING
                )

    def switch_over(
        self, minutes: Iterable[Evidence], generations: Mapping[Micros, int], requests: Mapping[Micros, int]
    ) -> None:
        """From now on the rows of these generations count, and no others of the minutes."""
        self._client.insert(
            "rebuilt_minutes",
            [
                [
                    datetime.fromtimestamp(one.minute // SECOND, UTC),
                    generations[one.minute],
                    one.records,
                    datetime.fromtimestamp(one.stored_at // SECOND, UTC).replace(
                        microsecond=one.stored_at % SECOND
                    ),
                    requests.get(one.minute, 0),
                ]
                for one in minutes
            ],
            column_names=["minute", "generation", "records", "stored_at", "requests"],
            settings=_WRITING,
        )

    def sweep(self) -> int:
        """Deletes rebuilt rows that no longer count; returns how many there were. Not those of the last hour,
        which may belong to a rebuild under way."""
        superseded = (
            "pane = '1m' AND partition < 0 AND written_at < now() - 3600 "
            "AND (pane_start, since) NOT IN (SELECT minute, generation FROM rebuilt_minutes FINAL)"
        )
        found = int(self._rows(f"SELECT count() FROM windows WHERE {superseded}")[0][0])  # noqa: S608
        if found:
            self._client.command(f"DELETE FROM windows WHERE {superseded}")  # noqa: S608
        return found

    def _rows(self, query: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        return self._client.query(query, parameters=parameters).result_rows


def _runs(minutes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of neighbours; in seconds."""
    start = previous = None
    for minute in minutes:
        if previous is None or minute != previous + 60:
            if start is not None and previous is not None:
                yield start, previous + 60
            start = minute
        previous = minute
    if start is not None and previous is not None:
        yield start, previous + 60
