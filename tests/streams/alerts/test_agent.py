"""The alerts worker as a process, on a real broker: what closes is judged once, whatever happens to it."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import MINUTE
from schemas.topics import RULES
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from tests.streams.alerts.source import Source
from tests.streams.broker import Broker, process, wait_until

pytestmark = pytest.mark.timeout(300)

PARTITIONS = 2
COMMAND = Path(sys.executable).with_name("chatgauge")
ALERT = Codec(schema("Alert"))
DECISION = Codec(schema("Decision"))

Worker = Callable[[], Any]


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


@pytest.fixture
def worker(broker: Broker, tmp_path: Path) -> Worker:
    """`with worker():` runs an alerts worker meanwhile."""

    @contextmanager
    def running() -> Iterator[Any]:
        env = {
            **os.environ,
            "CHATGAUGE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "CHATGAUGE_KAFKA_PARTITIONS": str(PARTITIONS),
            "CHATGAUGE_ALERTS_DEFAULT_RULES": "false",
        }
        command = [str(COMMAND), "worker", "alerts", "--metrics-port", "0"]
        with process(command, env, tmp_path / "worker.log") as one:
            yield one

    return running


def minutes_ago(minutes: int) -> int:
    """The start of a minute, so many ago."""
    now = time.time_ns() // 1000
    return now - now % MINUTE - minutes * MINUTE


def define(broker: Broker, id_: str, revision: int = 1, **fields: Any) -> None:
    rule = {
        "id": id_,
        "name": id_,
        "kind": "threshold",
        "severity": "warning",
        "metric": "requests",
        "aggregation": "sum",
        "grouping": "service",
        "window": "1m",
        "operator": ">=",
        "threshold": 10,
        "consecutive": 1,
        **fields,
    }

    async def publish() -> None:
        publisher = DefinitionPublisher(broker.bootstrap)
        await publisher.publish(RULES, Definition(id_, revision, False, 0, "a test", rule))
        await publisher.stop()

    asyncio.run(publish())


def told(broker: Broker, rule: str) -> list[tuple[str, int, str, str]]:
    """Each transition once: alert, its number, the group, the state. Told again, it was the same."""
    found: dict[tuple[str, int], tuple[str, int, str, str]] = {}
    for record in broker.records("chat.alerts"):
        assert record.value is not None
        alert = ALERT.decode(record.value)
        if alert["rule_id"] == rule and not alert["revision"]:
            line = (alert["alert_id"], alert["transition"], ",".join(alert["group"]), alert["state"])
            assert found.setdefault(line[:2], line) == line
    return list(found.values())


def test_an_alert_fires_and_resolves_once_across_a_kill(broker: Broker, worker: Worker) -> None:
    define(broker, "busy")
    source = Source(broker, PARTITIONS, minutes_ago(8))
    with worker() as first:
        source.close({"quiet": 1})
        source.close({"loud": 5, "quiet": 1})  # in each of two partitions
        wait_until("it fires", lambda: len(told(broker, "busy")) == 1)
        first.send_signal(signal.SIGKILL)
    source.close({"loud": 5, "quiet": 1})
    with worker():
        source.close({"loud": 1, "quiet": 1})
        wait_until("it resolves", lambda: len(told(broker, "busy")) == 2)
        broker.wait_until_acknowledged("chatgauge-alerts", "chat.closed")

    (fired, resolved) = told(broker, "busy")
    assert (fired[2:], resolved[2:]) == (("service=loud", "firing"), ("service=loud", "resolved"))
    assert fired[0] == resolved[0]
    assert (fired[1], resolved[1]) == (1, 2)
    decisions = [DECISION.decode(record.value or b"") for record in broker.records("chat.decisions")]
    judged = [d for d in decisions if d["rule_id"] == "busy" and d["what"] == "evaluated"]
    assert {decision["parts"] for decision in judged} == {PARTITIONS}


def test_a_rule_takes_effect_without_a_restart(broker: Broker, worker: Worker) -> None:
    source = Source(broker, PARTITIONS, minutes_ago(3))
    with worker():
        source.close({"calm": 1})
        broker.wait_until_acknowledged("chatgauge-alerts", "chat.closed")
        define(broker, "any", threshold=1)
        time.sleep(1)  # as long as a change may take to take effect
        source.close({"calm": 1})
        wait_until("the new rule fires", lambda: told(broker, "any") != [])
        define(broker, "any", revision=2, threshold=1, enabled=False)
        wait_until("disabled, its alert resolves", lambda: len(told(broker, "any")) == 2)
    assert [line[3] for line in told(broker, "any")] == ["firing", "resolved"]
