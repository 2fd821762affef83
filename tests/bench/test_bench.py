"""The benchmark's own claim: the product and the recomputation find the same windows. No timings."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench import load, referee, topics, truth, work
from bench.entrants import BY_NAME
from bench.events import SPACES, Load, made, start_of_load
from schemas.topics import REQUESTS

EVENTS = 5_000
PARTITIONS = 4
SPAN = timedelta(seconds=90)


@pytest.fixture(scope="module")
def lane(fresh_kafka: str) -> referee.Lane:
    asyncio.run(topics.create(fresh_kafka, [REQUESTS], PARTITIONS))
    asyncio.run(
        load.put(
            fresh_kafka,
            REQUESTS.name,
            Load(EVENTS, start_of_load(datetime.now(UTC), SPAN), PARTITIONS, span=SPAN),
        )
    )
    found = asyncio.run(truth.recompute(fresh_kafka, REQUESTS.name, PARTITIONS, by=(truth.SPACE, truth.USER)))
    return referee.Lane(fresh_kafka, REQUESTS.name, PARTITIONS, found[truth.SPACE], found[truth.USER])


def test_every_event_is_in_the_recomputed_windows(lane: referee.Lane) -> None:
    assert lane.events == EVENTS
    assert {space for space, _ in lane.truth} == {f"space-{i:02d}" for i in range(SPACES)}


@pytest.mark.parametrize("name", ["rollup", "rollup_full"])
def test_the_product_finds_the_same_windows(name: str, lane: referee.Lane, tmp_path: Path) -> None:
    asyncio.run(topics.create(lane.bootstrap, topics.WRITTEN, PARTITIONS))

    result = referee.run(BY_NAME[name], lane, tmp_path)  # raises when a window differs

    assert result.events == EVENTS
    assert result.windows == len(lane.truth)


def test_the_usage_worker_finds_the_same_users(lane: referee.Lane, tmp_path: Path) -> None:
    asyncio.run(topics.create(lane.bootstrap, topics.WRITTEN, PARTITIONS))

    result = referee.run(BY_NAME["usage"], lane, tmp_path)

    assert result.windows == len(lane.users)


def test_the_sink_writes_every_event(lane: referee.Lane, tmp_path: Path) -> None:
    asyncio.run(topics.create(lane.bootstrap, topics.WRITTEN, PARTITIONS))

    assert referee.run(BY_NAME["sink"], lane, tmp_path).events == EVENTS + PARTITIONS


def test_a_seed_makes_the_same_events() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    assert made(Load(200, start)).frame.equals(made(Load(200, start)).frame)
    assert not made(Load(200, start, seed=1)).frame.equals(made(Load(200, start, seed=2)).frame)


def test_differences_name_the_window_and_the_figure() -> None:
    minute = 60 * work.MINUTE_US
    right = {("a", minute): [2, 0, 30, 1, 1, {5: 2}], ("b", minute): [1, 0, 9, 1, 1, {3: 1}]}
    wrong = {("a", minute): [2, 1, 30, 1, 1, {5: 1, 6: 1}], ("c", minute): [1, 0, 9, 1, 1, {3: 1}]}

    assert work.differences(right, right) == []
    assert work.differences(right, wrong) == [
        "a, minute 60: errors 1 instead of 0, sketch bucket 5 1 instead of 2, sketch bucket 6 1 instead of 0",
        "b, minute 60: missing",
        "c, minute 60: unexpected",
    ]
    assert work.differences(right, {}, most=1) == ["a, minute 60: missing", "and 1 more"]


def test_windows_survive_their_file(tmp_path: Path) -> None:
    windows: work.Windows = {}
    work.add(windows, "b", 0, [1, 0, 9, 1, 1, {"3": 1}])
    work.add(windows, "a", 0, [1, 1, 5, 2, 3, {7: 1}])
    work.add(windows, "b", 0, [2, 0, 1, 1, 1, {3: 1, 4: 1}])

    work.write(windows, tmp_path / "windows")

    assert work.read(tmp_path / "windows") == {
        ("a", 0): [1, 1, 5, 2, 3, {7: 1}],
        ("b", 0): [3, 0, 10, 2, 2, {3: 2, 4: 1}],
    }
    assert work.requests_in(windows) == 4
