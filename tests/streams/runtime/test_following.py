"""A fetch that got lost is sought again, partition by partition."""

from typing import Any, cast

import faust
import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from streams.runtime.following import Following

ONE, OTHER = TP("chat.in-memory", 0), TP("chat.in-memory", 1)


class Consumer:
    """Where partitions begin, and where they were sought to."""

    def __init__(self) -> None:
        self.begun: dict[TP, int] = {ONE: 100, OTHER: 7}
        self.sought: list[tuple[TP, int]] = []

    def begun_at(self, tp: TP) -> int | None:
        return self.begun.get(tp)

    async def seek(self, tp: TP, offset: int) -> None:
        self.sought.append((tp, offset))


class App:
    def __init__(self) -> None:
        self.consumer = Consumer()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def following(app: App) -> Following:
    return Following(cast("faust.App", cast("Any", app)), "in-memory")


def rewinds() -> float:
    labels = {"table": "in-memory"}
    return REGISTRY.get_sample_value("chatgauge_stream_rewinds_total", labels) or 0.0


async def test_fetches_are_taken_from_where_the_partition_begins(app: App, following: Following) -> None:
    assert await following.takes(ONE, 100, 149)
    assert await following.takes(OTHER, 7, 7)
    assert await following.takes(ONE, 150, 160)
    assert app.consumer.sought == []


async def test_what_comes_behind_a_hole_is_left_and_the_hole_is_sought(
    app: App, following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    before = rewinds()
    assert await following.takes(ONE, 100, 149)
    assert not await following.takes(ONE, 200, 249)
    assert not await following.takes(ONE, 250, 299)
    assert app.consumer.sought == [(ONE, 150)]
    assert rewinds() == before + 1
    assert caplog.messages == [f"{ONE}: a fetch before offset 200 got lost; from 150 again"]
    assert await following.takes(ONE, 150, 299)
    assert await following.takes(ONE, 300, 300)


async def test_a_fetch_of_a_partition_that_is_yet_to_be_sought_is_not_taken(
    app: App, following: Following
) -> None:
    del app.consumer.begun[ONE]
    assert await following.takes(ONE, 100, 149) is False
    app.consumer.begun[ONE] = 40
    assert not await following.takes(ONE, 100, 149), "there is a hole before it"
    assert app.consumer.sought == [(ONE, 40)]


async def test_after_a_rebalance_it_begins_where_it_is_sought_then(app: App, following: Following) -> None:
    assert await following.takes(ONE, 100, 149)
    app.consumer.begun[ONE] = 400
    following.begin_anew()
    assert await following.takes(ONE, 400, 410)
    assert app.consumer.sought == []
