"""Closed panes read back from ClickHouse: those that the streams closed, partitions added up."""

import uuid
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from polars.testing import assert_frame_equal

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from schemas.time import HOUR, MINUTE, SECOND, clock
from sinks.tables import prepare
from streams.backtest import recorded
from streams.backtest.recorded import RecordedHistory, RecordedPane
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.catalogue.measures import LATENCIES
from streams.windows.block import row_schema
from streams.windows.merge import merge
from tests.sinks.conftest import FOREVER
from tests.sinks.making import HELD, NOON, block, block_record, fetch_of, rows_of
from tests.sinks.storing import store, window_writer

UTC_ZONE = ZoneInfo("UTC")
SERVICE, MODEL, TOTAL = (GROUPINGS[name] for name in ("service", "model", "total"))


def rows(grouping: str, partition: int, minute: int) -> pa.Table:
    """Something of every minute; sketches with few buckets and with many."""
    latency = [1_000 * (partition + 1), 2_000_000 + 10_000 * minute]
    crowded = [100_000 + 700 * n for n in range(200)]
    figures = {
        "requests": minute + partition + 1,
        "errors": partition,
        "total_us": latency,
        "model_us": crowded,
    }
    keys = {"service": [("chat",), (f"s{minute % 3}",)], "model": [("openai", "gpt")], "total": [()]}
    return rows_of(grouping, dict.fromkeys(keys[grouping], figures))


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouseSettings) -> Iterator[Client]:
    settings = clickhouse.model_copy(update={"database": f"panes_{uuid.uuid4().hex[:12]}"})
    prepare(settings, FOREVER)
    writer = window_writer(clock)
    made = [
        block(
            rows(grouping, partition, minute),
            partition=partition,
            start=NOON + minute * MINUTE,
            grouping=grouping,
            imported=imported,
            closed=True,
        )
        for grouping in ("service", "model", "total")
        for minute in (0, 1, 2, 5, 6)
        for partition in (0, 1)
        for imported in (False, True)
        if not imported or minute == 2
    ]
    made.append(block(rows("total", 0, 3), pane="1s", start=NOON + 7 * SECOND, grouping="total", closed=True))
    with connect(settings) as client:
        records = [block_record(at, one) for at, one in enumerate(made)]
        store(client, writer.take([fetch_of(records)], frozenset({HELD}), 0.0))
        yield client
        client.command(f"DROP DATABASE {settings.database}")


def same(found: RecordedPane, grouping: Grouping, shares: list[pa.Table]) -> None:
    assert found.rows.schema.equals(row_schema(grouping))
    expected = pl.DataFrame(merge(shares, grouping))
    keys = list(grouping.keys)
    got = pl.DataFrame(found.rows)
    if keys:
        expected, got = expected.sort(keys), got.sort(keys)
    assert_frame_equal(got, expected, check_dtypes=False)


@pytest.mark.parametrize("most_rows", [50_000, 3])
@pytest.mark.parametrize("grouping", [SERVICE, MODEL, TOTAL], ids=lambda grouping: grouping.name)
def test_each_pane_is_there_once_and_in_order_however_much_is_read_at_once(
    tables: Client, grouping: Grouping, most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "_MOST_ROWS", most_rows)
    history = RecordedHistory(tables, UTC_ZONE)
    panes = list(history.panes(grouping, "1m", NOON, NOON + 6 * MINUTE, LATENCIES))
    assert [pane.start for pane in panes] == [NOON + minute * MINUTE for minute in (0, 1, 2, 5)]
    for pane, minute in zip(panes, (0, 1, 2, 5), strict=True):
        same(pane, grouping, [rows(grouping.name, partition, minute) for partition in (0, 1)])


def test_imported_requests_are_in_them_when_they_are_asked_for(tables: Client) -> None:
    start, end = NOON + 2 * MINUTE, NOON + 3 * MINUTE
    share = [rows("total", partition, 2) for partition in (0, 1)]
    for include, shares in (("live", share), ("imported", share), ("all", share + share)):
        (pane,) = RecordedHistory(tables, UTC_ZONE, include).panes(TOTAL, "1m", start, end, LATENCIES)
        same(pane, TOTAL, shares)
    assert list(RecordedHistory(tables, UTC_ZONE, "imported").panes(TOTAL, "1m", NOON, start)) == []


def test_latencies_that_nobody_asks_for_are_left_out(tables: Client) -> None:
    (pane,) = RecordedHistory(tables, UTC_ZONE).panes(TOTAL, "1m", NOON, NOON + MINUTE, ["model_us"])
    (row,) = pane.rows.to_pylist()
    assert (row["model_us_count"], len(row["model_us_keys"]) > 20) == (400, True)
    assert (row["total_us_count"], row["total_us_min"], row["total_us_keys"]) == (0, None, [])
    assert pane.rows.schema.equals(row_schema(TOTAL))


def test_panes_of_a_second_are_read_too(tables: Client) -> None:
    (pane,) = RecordedHistory(tables, UTC_ZONE).panes(TOTAL, "1s", NOON, NOON + HOUR, LATENCIES)
    assert pane.start == NOON + 7 * SECOND
    same(pane, TOTAL, [rows("total", 0, 3)])


def test_samples_are_read_hour_by_hour_in_the_order_in_which_they_occurred(tables: Client) -> None:
    tables.command(
        "INSERT INTO samples (arrived_at, occurred_at, event_id, service, instance, name, value, imported) "
        f"SELECT now(), fromUnixTimestamp64Micro({NOON} + 1000000 * (59 - number) * 60), toString(number), "
        "'chat', 'a', if(number % 2, 'depth', 'other'), number, number > 40 FROM numbers(60)"
    )
    spans = list(RecordedHistory(tables, UTC_ZONE).samples("depth", NOON, NOON + 90 * MINUTE))
    everything = list(RecordedHistory(tables, UTC_ZONE, "all").samples("depth", NOON, NOON + HOUR))
    assert [(span.start, span.end) for span in spans] == [
        (NOON, NOON + HOUR),
        (NOON + HOUR, NOON + 90 * MINUTE),
    ]
    assert spans[0].rows["value"].to_list() == [float(n) for n in range(39, 0, -2)]
    assert spans[0].rows["occurred_at"].is_sorted()
    assert spans[0].rows.schema["occurred_at"] == pl.Datetime("us", "UTC")
    assert (spans[1].rows.height, everything[0].rows.height) == (0, 30)


def test_where_there_is_nothing_there_are_no_panes(tables: Client) -> None:
    history = RecordedHistory(tables, UTC_ZONE)
    assert list(history.panes(TOTAL, "1m", NOON - HOUR, NOON, LATENCIES)) == []
    assert history.bounds(TOTAL, "1m", NOON - HOUR, NOON) is None
    assert history.bounds(TOTAL, "1m", NOON - HOUR, NOON + HOUR) == (NOON, NOON + 6 * MINUTE)
