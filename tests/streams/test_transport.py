"""The batch transport, on a real broker: one fetch is one event, and commits reach the end exactly."""

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra import topics
from schemas.topics import Topic
from tests.streams.broker import Broker, process, wait_until

pytestmark = pytest.mark.timeout(300)

WORKER = Path(__file__).with_name("batch_worker.py")
PARTITIONS = 3


@pytest.fixture
def broker(kafka: str) -> Broker:
    return Broker(kafka)


@pytest.fixture
def topic(kafka: str, topic_prefix: str) -> str:
    name = f"{topic_prefix}-requests"
    asyncio.run(topics.create(kafka, partitions=PARTITIONS, topics=[Topic(name, "RequestEvent")]))
    return name


class Handed:
    """What the worker was handed so far."""

    def __init__(self, output: Path) -> None:
        self._output = output

    @property
    def events(self) -> list[dict[str, Any]]:
        if not self._output.exists():
            return []
        *lines, _ = self._output.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines]

    @property
    def offsets(self) -> dict[int, list[int]]:
        """The records' offsets by partition, as they came."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for event in self.events:
            found[event["partition"]] += event["offsets"]
        return dict(found)


@contextmanager
def worker(broker: Broker, topic: str, output: Path, *options: str) -> Iterator[Handed]:
    command = [sys.executable, str(WORKER), broker.bootstrap, topic, str(PARTITIONS)]
    with process([*command, str(output), *options], os.environ, output.with_suffix(".log")):
        yield Handed(output)


def numbered(count: int) -> list[bytes]:
    return [f"value {number}".encode() for number in range(count)]


def test_a_fetch_of_a_partition_is_one_event_with_all_its_records(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    broker.send(topic, {0: numbered(3_000), 1: numbered(1)})

    with worker(broker, topic, tmp_path / "out") as handed:
        broker.wait_until_acknowledged(f"{topic}-group", topic)
        events = handed.events

    assert handed.offsets == {0: list(range(3_000)), 1: [0]}
    assert len(events) < 100
    for event in events:
        assert event["offset"] == event["offsets"][-1]
        assert event["first"] == f"value {event['offsets'][0]}"


def test_commits_reach_the_end_exactly_whatever_the_size_of_fetches(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    group = f"{topic}-group"
    with worker(broker, topic, tmp_path / "out") as handed:
        for size in (1, 2_000, 1, 17):
            broker.send(topic, {partition: numbered(size) for partition in range(PARTITIONS)})
            broker.wait_until_acknowledged(group, topic)

    assert broker.acknowledged(group, topic) == sum(broker.ends(topic).values()) == 3 * 2_019
    assert handed.offsets == {partition: list(range(2_019)) for partition in range(PARTITIONS)}


def test_what_was_acknowledged_does_not_come_again(broker: Broker, topic: str, tmp_path: Path) -> None:
    broker.send(topic, {0: numbered(500)})
    with worker(broker, topic, tmp_path / "first"):
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    broker.send(topic, {0: numbered(5)})
    with worker(broker, topic, tmp_path / "second") as handed:
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    assert handed.offsets == {0: list(range(500, 505))}


def test_what_was_not_acknowledged_comes_again(broker: Broker, topic: str, tmp_path: Path) -> None:
    broker.send(topic, {0: numbered(500)})
    with worker(broker, topic, tmp_path / "first", "--hold") as holding:
        wait_until("the fetch is handed over", lambda: sum(map(len, holding.offsets.values())) == 500)
    assert broker.acknowledged(f"{topic}-group", topic) == 0

    with worker(broker, topic, tmp_path / "second") as handed:
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    assert handed.offsets == {0: list(range(500))}
