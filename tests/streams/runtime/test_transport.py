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
    own = [Topic(name, "RequestEvent"), Topic(f"{name}-state", "WindowBlock")]
    asyncio.run(topics.create(kafka, partitions=PARTITIONS, topics=own))
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


def command(broker: Broker, topic: str, output: Path, *options: str) -> list[str]:
    return [sys.executable, str(WORKER), broker.bootstrap, topic, str(PARTITIONS), str(output), *options]


@contextmanager
def worker(broker: Broker, topic: str, output: Path, *options: str) -> Iterator[Handed]:
    with process(command(broker, topic, output, *options), os.environ, output.with_suffix(".log")):
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


def test_every_worker_of_a_group_knows_how_many_partitions_there_are(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    with (
        worker(broker, topic, tmp_path / "leader") as leader,
        worker(broker, topic, tmp_path / "follower") as follower,
    ):

        def both_were_handed_something() -> bool:
            broker.send(topic, dict.fromkeys(range(PARTITIONS), numbered(1)))
            return bool(leader.events and follower.events)

        wait_until("both workers have partitions", both_were_handed_something)

    assert {event["partitions"] for event in [*leader.events, *follower.events]} == {PARTITIONS}


def test_a_fetch_that_a_rebalance_takes_from_the_agent_comes_again(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Fetches wait for a slow agent while workers come and go. Each reaches an agent all the same."""
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        broker.send(topic, {partition: numbered(count) for partition in range(PARTITIONS)})
        sent += count

    send(2_000)
    with worker(broker, topic, tmp_path / "first", "--slow") as first:
        wait_until("the first is at work", lambda: len(first.events) > 2)
        with worker(broker, topic, tmp_path / "second", "--slow") as second:

            def at_work() -> bool:
                send(20)  # the first may be done with what there was before the second has begun
                return len(second.events) > 2

            wait_until("the second is at work", at_work)
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    handed = {
        (event["partition"], offset)
        for one in (first, second)
        for event in one.events
        for offset in event["offsets"]
    }
    assert len(handed) == PARTITIONS * sent


def test_no_fetch_is_lost_while_a_worker_takes_up_its_state(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    """Faust goes to the committed offsets, and only then empties the agent's queue."""
    broker.send(f"{topic}-state", {partition: numbered(10) for partition in range(PARTITIONS)})
    broker.send(topic, {partition: numbered(1_000) for partition in range(PARTITIONS)})

    with worker(broker, topic, tmp_path / "out", "--slow", "--seeking") as handed:
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    assert handed.offsets == {partition: list(range(1_000)) for partition in range(PARTITIONS)}


def test_a_worker_that_is_stopped_while_it_joins_ends_and_leaves_the_group(
    broker: Broker, topic: str, tmp_path: Path
) -> None:
    broker.send(topic, {0: numbered(1)})
    with worker(broker, topic, tmp_path / "before"):
        broker.wait_until_acknowledged(f"{topic}-group", topic)

    log = tmp_path / "leaving.log"
    with process(command(broker, topic, tmp_path / "leaving", "--leaving"), os.environ, log) as stopped:
        wait_until("it has ended", lambda: stopped.poll() is not None, within_s=40)

    assert stopped.returncode == 0, log.read_text(encoding="utf-8")
    assert broker.members(f"{topic}-group") == 0
