"""What is made known of a partition: not what is another's by now, nor what is not yet whole."""

import asyncio
from types import SimpleNamespace
from typing import Any

import faust

from schemas.time import MINUTE
from streams.alerts.shares import read_share
from streams.publication import Publication
from streams.table import WindowTable
from streams.windows.partition import PartitionWindows
from tests.streams.windows.requests import NOON, frame, request
from tests.streams.windows.test_partition import EVERY_MINUTE


def publication(app: Any = None, closed: Any = None) -> Publication:
    """Of a table of its own, in an application that is not started."""
    unstarted = faust.App("publication-tests", broker="kafka://nowhere", store="memory://")
    table = WindowTable(unstarted, name="blocks", partitions=1, key_type=bytes, value_type=bytes)
    return Publication(app, table, closed, "nowhere:9092")


async def test_a_partition_that_went_while_its_end_was_asked_for_is_left_alone() -> None:
    asked: list[Any] = []

    async def highwaters(tp: Any) -> dict[Any, int]:
        asked.append(tp)
        return {tp: 5}

    of_it = publication(app=SimpleNamespace(consumer=SimpleNamespace(highwaters=highwaters)))
    windows = PartitionWindows(0, EVERY_MINUTE, lambda key: None)

    await of_it.look_behind(windows, NOON, ours=lambda: False)
    await of_it.look_behind(windows, NOON + MINUTE, ours=lambda: False)

    assert [tp.partition for tp in asked] == [0, 0]


async def test_no_watermark_is_told_before_all_is_counted_again_that_was() -> None:
    """Whoever judges would take a pane for told that has yet to close."""
    sent: list[Any] = []

    async def send(**record: Any) -> Any:
        sent.append(read_share(record["value"], 0))
        durable = asyncio.get_running_loop().create_future()
        durable.set_result(SimpleNamespace(offset=0))
        return durable

    of_it = publication(closed=SimpleNamespace(send=send))
    of_it.recovered(frozenset(), source_partitions=1)
    before = PartitionWindows(0, EVERY_MINUTE, lambda key: None)
    blocks = {block.key: block for block in before.count(frame([request(0), request(1)]), 1, NOON).blocks}
    windows = PartitionWindows(0, EVERY_MINUTE, blocks.get)
    windows.restore(blocks.values(), NOON)
    windows.resume(committed=1)

    await of_it.announce(windows, windows.wait(NOON), NOON, beat=True)
    assert sent == []
    again = windows.count(frame([request(1)]), 1, NOON + MINUTE)
    await of_it.announce(windows, again, NOON + MINUTE, beat=True)
    assert [share.watermark for share in sent] == [windows.watermark]
