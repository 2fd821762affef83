"""Days, weeks and months of several zones, over changes of the clock: by the API, a view, and by hand."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from clickhouse_connect.driver.client import Client

from api.history.question import Kind
from api.history.store import History
from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from schemas.time import DAY, HOUR, Micros, micros_of
from streams.windows.periods import Period
from tests.api.blocks import Request, blocks_of
from tests.api.conftest import WriteWindows
from tests.api.test_question import question

BEGIN = micros_of(datetime(2025, 10, 1, tzinfo=UTC))
END = micros_of(datetime(2026, 12, 1, tzinfo=UTC))
CHANGES = [
    micros_of(datetime.fromisoformat(moment))
    for moment in (
        *("2025-10-26T01:00Z", "2026-03-29T01:00Z", "2026-10-25T01:00Z"),
        *("2025-11-02T06:00Z", "2026-03-08T07:00Z", "2026-11-01T06:00Z"),
    )
]
"""When the clocks of Berlin and New York are put."""
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC")
STEPS = {Period.HOUR: "hour", Period.DAY: "day", Period.WEEK: "week", Period.MONTH: "month"}


@pytest.fixture
def client(tables: ClickHouseSettings) -> Iterator[Client]:
    with connect(tables) as client:
        yield client


def made() -> list[Request]:
    draw = Random(3)
    times = [BEGIN + draw.randrange(END - BEGIN) for _ in range(1_500)]
    times += [change + draw.randrange(-3 * DAY, 3 * DAY) for change in CHANGES for _ in range(150)]
    return [Request(at=time, service=draw.choice(["support", "search"])) for time in times]


def by_hand(requests: Sequence[Request], step: Period, zone: str) -> dict[tuple[str, str], int]:
    """Requests by service and the first day (or the local hour) of the period, from each one's local time."""
    counts: Counter[tuple[str, str]] = Counter()
    for request in requests:
        at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=request.at)).astimezone(
            ZoneInfo(zone)
        )
        first = {
            Period.DAY: at.date(),
            Period.WEEK: at.date() - timedelta(days=at.weekday()),
            Period.MONTH: at.date().replace(day=1),
        }.get(step)
        shown = first.isoformat() if first else at.replace(minute=0, second=0, microsecond=0).isoformat()
        counts[request.service, shown] += 1
    return dict(counts)


def shown(start: Micros, step: Period, zone: str) -> str:
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)).astimezone(ZoneInfo(zone))
    return local.isoformat() if step is Period.HOUR else local.date().isoformat()


async def test_the_api_a_view_and_a_count_by_hand_agree(
    tables: ClickHouseSettings, write_windows: WriteWindows, client: Client
) -> None:
    requests = made()
    write_windows(blocks_of(requests, ["service"], "1m", lambda r: r.at % 2, closed=True))

    async with History(tables) as history:
        for zone in ZONES:
            for step in (Period.DAY, Period.WEEK, Period.MONTH):
                asked = question(
                    kind=Kind.REQUESTS,
                    grouping="service",
                    step=step,
                    zone=ZoneInfo(zone),
                    start=BEGIN,
                    end=END,
                )
                answer = await history.ask(asked, END)
                from_api = {
                    (line.key["service"], shown(micros_of(point.start), step, zone)): point.value
                    for line in answer.series
                    for point in line.points
                    if point.value is not None
                }
                from_view = {
                    (service, day): requests
                    for day, service, requests in client.query(
                        "SELECT formatDateTime(period, '%F'), key1, requests FROM requests_per_period("
                        f"grouping = 'service', step = '{STEPS[step]}', zone = '{zone}')"
                    ).result_rows
                }
                assert from_api == from_view == by_hand(requests, step, zone), (zone, step)


async def test_hours_agree_where_the_clock_is_put(
    tables: ClickHouseSettings, write_windows: WriteWindows, client: Client
) -> None:
    requests = made()
    write_windows(blocks_of(requests, ["service"], "1m", lambda r: r.at % 2, closed=True))

    async with History(tables) as history:
        for zone in ZONES:
            expected = by_hand(requests, Period.HOUR, zone)
            for change in CHANGES:
                asked = question(
                    kind=Kind.REQUESTS,
                    grouping="service",
                    step=Period.HOUR,
                    zone=ZoneInfo(zone),
                    start=change - 6 * HOUR,
                    end=change + 6 * HOUR,
                )
                answer = await history.ask(asked, END)
                for line in answer.series:
                    for point in line.points:
                        key = line.key["service"], shown(micros_of(point.start), Period.HOUR, zone)
                        assert (point.value or 0) == expected.get(key, 0), (zone, key)
