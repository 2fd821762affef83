"""What is made known of a partition, when the partition is another's by now."""

from types import SimpleNamespace
from typing import Any, cast

import faust

from streams.publication import Publication
from streams.table import WindowTable
from streams.windows.panes import MINUTE
from streams.windows.partition import PartitionWindows
from tests.streams.windows.requests import NOON
from tests.streams.windows.test_partition import EVERY_MINUTE


async def test_a_partition_that_went_while_its_end_was_asked_for_is_left_alone() -> None:
    app = faust.App("publication-tests", broker="kafka://nowhere", store="memory://")
    table = WindowTable(app, name="blocks", partitions=1, key_type=bytes, value_type=bytes)
    asked: list[Any] = []

    async def highwaters(tp: Any) -> dict[Any, int]:
        asked.append(tp)
        return {tp: 5}

    away = cast("Any", SimpleNamespace(consumer=SimpleNamespace(highwaters=highwaters)))
    publication = Publication(away, table, cast("Any", None), "nowhere:9092")
    windows = PartitionWindows(0, EVERY_MINUTE, lambda key: None)

    await publication.look_behind(windows, NOON, ours=lambda: False)
    await publication.look_behind(windows, NOON + MINUTE, ours=lambda: False)

    assert [tp.partition for tp in asked] == [0, 0]
