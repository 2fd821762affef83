"""Repeats that the streams can't see: in time, but by another partition, or too many to be remembered.

Nothing about such an event shows that it is a copy; only all events of its minute together do. So each
minute is looked at once when it has settled: it has repeats when more records were stored of it than
there are events, and its windows have counted them when they don't have as many as there are events.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from schemas.time import MINUTE, SECOND, Micros
from sinks.rebuild.history import SETTLED, Waiting

_MOST_MINUTES: Final = 200
_MOST_RECORDS: Final = 5_000_000
"""Looked at at once: a matter of seconds."""
_READING: Final = {"max_threads": 1}
_LENGTH: Final = MINUTE // SECOND


class Checking:
    """Looks at minutes that have settled, and of which nothing has come for `quiet` seconds."""

    def __init__(self, client: Client, quiet: float) -> None:
        self._client = client
        self._quiet = quiet

    def doubtful(self) -> list[Waiting]:
        """Those of the next minutes that have to be rebuilt; the others are noted to be right."""
        stored_at = self._next()
        records = self._records(stored_at)
        if not records:
            return []
        start, end = min(records), max(records) + _LENGTH
        events = self._pairs(
            "SELECT toUnixTimestamp(toStartOfMinute(occurred_at)) AS minute, "
            "uniqExact(occurred_at, event_id) FROM events "
            "WHERE occurred_at >= toDateTime64({start:Int64}, 6, 'UTC') "
            "AND occurred_at < toDateTime64({end:Int64}, 6, 'UTC') AND phase = 'finished' GROUP BY minute",
            start=start,
            end=end,
        )
        counted = self._pairs(
            # Of a pane that is still open nobody knows what it will have counted.
            "SELECT toUnixTimestamp(pane_start) AS minute, if(min(closed), sum(requests), -1) "
            "FROM windows FINAL WHERE pane = '1m' AND grouping = 'total' AND partition >= 0 "
            "AND pane_start >= toDateTime({start:Int64}, 'UTC') "
            "AND pane_start < toDateTime({end:Int64}, 'UTC') GROUP BY minute",
            start=start,
            end=end,
        )
        wrong = [
            minute
            for minute, count in records.items()
            if count > events.get(minute, 0) != counted.get(minute, -1)
        ]
        self.note({minute: stored_at[minute] for minute in records.keys() - set(wrong)})
        return [Waiting(minute * SECOND, stored_at[minute], self._quiet) for minute in wrong]

    def note(self, stored_at: Mapping[int, Micros]) -> None:
        """Minutes (in seconds) that need not be looked at again, unless more comes than was there."""
        if stored_at:
            self._client.insert(
                "checked_minutes",
                [
                    [
                        datetime.fromtimestamp(minute, UTC),
                        datetime.fromtimestamp(stored // SECOND, UTC).replace(microsecond=stored % SECOND),
                    ]
                    for minute, stored in stored_at.items()
                ],
                column_names=["minute", "stored_at"],
                settings={"async_insert": 0},
            )

    def _next(self) -> dict[int, Micros]:
        """Minutes (in seconds), the latest ones first, and when the last record of each was stored."""
        return self._pairs(
            f"""
            SELECT toUnixTimestamp(minute), toUnixTimestamp64Micro(a.last_stored)
            FROM
            (
                SELECT minute, max(late) AS is_late, max(stored_at) AS last_stored
                FROM arrivals WHERE {SETTLED} GROUP BY minute
            ) AS a
            LEFT JOIN (SELECT minute, max(stored_at) AS stored_at FROM checked_minutes GROUP BY minute) AS c
            USING (minute)
            WHERE a.is_late = 0 AND a.last_stored > c.stored_at
                AND a.last_stored <= now64(6) - {{quiet:Float64}}
                AND minute NOT IN (SELECT minute FROM rebuilt_minutes)
            ORDER BY minute DESC
            LIMIT {_MOST_MINUTES}""",  # noqa: S608 - constants
            quiet=self._quiet,
        )

    def _records(self, minutes: Iterable[int]) -> dict[int, int]:
        """How many records were stored of each, as far as they can be looked at together."""
        listed = ", ".join(map(str, minutes))
        if not listed:
            return {}
        found = self._pairs(
            "SELECT toUnixTimestamp(minute), sum(records) FROM "  # noqa: S608 - numbers
            "(SELECT minute, groupBitmapMerge(offsets) AS records FROM arrivals "
            f"WHERE minute IN ({listed}) GROUP BY minute, _partition) GROUP BY minute ORDER BY minute DESC"
        )
        chosen: dict[int, int] = {}
        for minute, records in found.items():
            far = chosen and next(iter(chosen)) - minute > _MOST_MINUTES * _LENGTH
            if far or (chosen and sum(chosen.values()) + records > _MOST_RECORDS):
                break
            chosen[minute] = records
        return chosen

    def _pairs(self, query: str, **parameters: Any) -> dict[int, int]:
        rows: Sequence[Sequence[int]] = self._client.query(
            query, parameters=parameters, settings=_READING
        ).result_rows
        return {first: second for first, second in rows}  # noqa: C416 - rows are sequences
