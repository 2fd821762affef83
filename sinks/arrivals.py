"""`arrivals`: which finished requests of each minute have been stored, as ClickHouse notes it by itself.

A view notes what is inserted into `events`, right after it is there. When ClickHouse ends in between,
the insert is repeated, and noted then. When the sink ends as well, nobody repeats it: so whoever takes
over the partition has its end noted again, which changes nothing if it was.
"""

from typing import Final

from clickhouse_connect.driver.client import Client

SOURCE: Final = "events"

_LONGEST_INSERT: Final = 1_000_000
"""Offsets: what a sink has under way at once lies within them."""

NOTED: Final = """
SELECT
    toStartOfMinute(occurred_at) AS minute,
    _partition,
    toDate(arrived_at) AS day,
    groupBitmapState(toUInt64(_offset)) AS offsets,
    toUInt8(max(imported OR arrived_at >= occurred_at + INTERVAL 5 MINUTE)) AS late,
    now64(6, 'UTC') AS stored_at
FROM events
WHERE phase = 'finished'
{more}
GROUP BY minute, _partition, day
"""
"""What the view `arrivals_of_events` notes."""


_MISSING: Final = f"""
INSERT INTO arrivals
SELECT noted.*
FROM ({NOTED}) AS noted
LEFT JOIN
(
    SELECT minute, groupBitmapMergeState(offsets) AS offsets
    FROM arrivals
    WHERE _partition = {{{{partition:Int32}}}}
        AND minute IN (SELECT toStartOfMinute(occurred_at) FROM events WHERE {{ends}})
    GROUP BY minute
) AS known USING (minute)
WHERE bitmapAndnotCardinality(noted.offsets, known.offsets) > 0
"""  # noqa: S608 - constants


def note_again(client: Client, partition: int, highest: int) -> None:
    """Notes those of the last events of a partition of `chat.requests` that are not; `highest` is the offset
    of the last one."""
    ends = "_partition = {partition:Int32} AND _offset > {after:Int64}"
    client.command(
        _MISSING.format(more=f"AND {ends}", ends=ends),
        parameters={"partition": partition, "after": highest - _LONGEST_INSERT},
    )
