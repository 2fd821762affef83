"""Agents on the harness, as processes on a real broker: nothing is taken twice, and everything is said."""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen

import pytest

from schemas.codec import Codec
from schemas.contract import schema
from tests.streams.broker import Broker, process, wait_until

pytestmark = pytest.mark.timeout(240)

PARTITIONS = 2
AGENTS = Path(__file__).with_name("counting_agents.py")
CODEC = Codec(schema("Decision"))

Agents = Callable[..., "AbstractContextManager[Popen[str]]"]


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


@pytest.fixture
def agents(broker: Broker, tmp_path: Path) -> Agents:
    """`with agents(*options):` runs a worker meanwhile."""

    def running(*options: str) -> "AbstractContextManager[Popen[str]]":
        command = [sys.executable, str(AGENTS), broker.bootstrap, str(PARTITIONS), *options]
        return process(command, os.environ, tmp_path / "agents.log")

    return running


def said(broker: Broker) -> list[tuple[str, str]]:
    """Decisions in the order in which they lie there: id and reason."""
    found = []
    for record in broker.records("chat.decisions"):
        assert record.value is not None
        decision = CODEC.decode(record.value)
        found.append((decision["decision_id"], decision["reason"]))
    return found


def send(broker: Broker, topic: str, texts: dict[int, list[str]]) -> None:
    broker.send(topic, {partition: [text.encode() for text in those] for partition, those in texts.items()})


def test_what_a_killed_worker_had_still_to_say_is_said_by_the_next(broker: Broker, agents: Agents) -> None:
    texts = {0: [f"a{i}" for i in range(300)], 1: [f"b{i}" for i in range(200)]}
    alerts = [f"c{i}" for i in range(50)]
    expected = {f"chat.alerts/0/{i}": text for i, text in enumerate(alerts)}
    for partition, those in texts.items():
        expected |= {f"chat.notifications/{partition}/{i}": text for i, text in enumerate(those)}

    with agents("--stop-before-sending", "2") as first:
        for begin in range(0, 300, 100):
            send(broker, "chat.notifications", {p: those[begin : begin + 100] for p, those in texts.items()})
        wait_until("it has killed itself", lambda: first.poll() == -signal.SIGKILL)
    before = said(broker)
    with agents():
        send(broker, "chat.alerts", {0: alerts})
        wait_until("everything is said", lambda: len(dict(said(broker))) == len(expected))
        for group, topic in (("numbering", "chat.notifications"), ("numbering-one", "chat.alerts")):
            broker.wait_until_acknowledged(f"chatgauge-{group}", topic)

    assert len(before) < len(expected), "it had something left to say"
    after = said(broker)
    assert dict(after) == expected, "each number was given to one record, in order"
    assert set(after) == set(expected.items()), "and said again, it was the same"


def test_state_moves_with_its_partition(broker: Broker, agents: Agents) -> None:
    known = dict(said(broker))
    count = sum(key.startswith("chat.notifications/") for key in known)
    with agents() as first:
        send(broker, "chat.notifications", {0: ["d0"], 1: ["d1"]})
        wait_until("the first has them", lambda: len(dict(said(broker))) == len(known) + 2)
        with agents() as second:
            for i in range(20):
                send(broker, "chat.notifications", {0: [f"e{i}"], 1: [f"f{i}"]})
            wait_until("both do their work", lambda: len(dict(said(broker))) == len(known) + 42)
            assert first.poll() is None
            assert second.poll() is None
        send(broker, "chat.notifications", {0: ["g0"], 1: ["g1"]})
        wait_until("the first has them all again", lambda: len(dict(said(broker))) == len(known) + 44)

    found = {key: text for key, text in said(broker) if key.startswith("chat.notifications/")}
    assert len(found) == count + 44, "no number was given twice"
    assert sorted(text for key, text in found.items() if key not in known) == sorted(
        ["d0", "d1", "g0", "g1", *(f"e{i}" for i in range(20)), *(f"f{i}" for i in range(20))]
    )
