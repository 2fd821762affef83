"""The windows sink: from records of `chat.windows` to inserts."""

import logging
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry

from clients.kafka.fetched import Fetched
from schemas.batch_writer import batch_of
from schemas.topics import WINDOWS
from sinks.metrics import SinkMetrics
from sinks.windows import WindowWriter
from sinks.writer import Fetch
from streams.windows.block import write_block
from tests.sinks.making import HELD, NOON, block, fetch


@pytest.fixture
def prometheus() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def writer(prometheus: CollectorRegistry) -> WindowWriter:
    return WindowWriter(
        WINDOWS,
        lambda: NOON,
        SinkMetrics(prometheus),
        open_pane_interval=timedelta(seconds=10),
        timezone=ZoneInfo("UTC"),
        max_rows=1_000,
    )


def offsets_written(writer: WindowWriter, *values: bytes) -> list[int]:
    """The offsets of the source that the rows are counted to, which a fetch of these values writes."""
    step = writer.take([fetch(values)], frozenset([HELD]), 0.0)
    return [offset for insert in step.inserts for offset in insert.rows.column("offset").to_pylist()]


def test_what_is_no_block_and_a_block_without_rows_are_told_with_their_place_and_the_others_written(
    writer: WindowWriter, prometheus: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    broken = replace(block(since=2, offset=2, closed=True), packed_rows=b"no rows")
    good = [write_block(block(since=n, offset=n, closed=True)) for n in (1, 3)]
    with caplog.at_level(logging.ERROR):
        assert offsets_written(writer, good[0], b"no block", write_block(broken), good[1]) == [1, 3]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "chat.windows/0@1",
        "chat.windows/0@2",
    ]
    refused = {
        reason: prometheus.get_sample_value(
            "chatgauge_sink_unreadable_total", {"topic": "chat.windows", "reason": reason}
        )
        for reason in ("unknown_format", "malformed")
    }
    assert refused == {"unknown_format": 1, "malformed": 1}


def test_of_a_block_that_is_replaced_at_once_the_rows_are_not_looked_at(
    writer: WindowWriter, caplog: pytest.LogCaptureFixture
) -> None:
    replaced = replace(block(offset=1), packed_rows=b"no rows")
    assert offsets_written(writer, write_block(replaced), write_block(block(offset=2))) == [2]
    assert not caplog.records


def test_a_batch_that_cannot_be_read_is_told_with_its_offsets_and_the_others_written(
    writer: WindowWriter, prometheus: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    values = [write_block(block(since=n, offset=n, closed=True)) for n in (1, 2)]
    before, after = batch_of(values[:1]), batch_of(values[1:], offset=6)
    torn = replace(batch_of([b"x"] * 5, offset=1), attributes=1)
    fetched = Fetch(HELD, Fetched(0, 9, [before, torn, after]))
    step = writer.take([fetched], frozenset([HELD]), 0.0)
    assert [row["offset"] for insert in step.inserts for row in insert.rows.to_pylist()] == [1, 2]
    assert step.positions == {HELD: 9}
    (told,) = caplog.records
    assert told.getMessage().startswith(
        "chat.windows/0: the batch of offsets 1 to 5 can't be unpacked as gzip"
    )
    counted = {"topic": "chat.windows", "reason": "unreadable_batch"}
    assert prometheus.get_sample_value("chatgauge_sink_unreadable_total", counted) == 1
