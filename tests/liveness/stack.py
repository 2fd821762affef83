"""One part as a process of its own, on a real Kafka and ClickHouse; it is started again when it ends."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from infra.ports import free_port
from infra.process import Child
from infra.settings import ClickHouseSettings
from schemas.topics import ALERTS
from tests.end_to_end.stack import wait_until
from tests.faults.watch import Look, Watch
from tests.liveness.feed import COMMANDS, FOLLOWED, GROUPS, VALUES

PARTITIONS: Final = 2
_ENTRY: Final = Path(__file__).with_name("part.py")
_CHECKOUT: Final = Path(__file__).parents[2]
_ANSWERED_WITHIN_S: Final = 60.0
_RECORDS: Final = 20
_PROBED_WITHIN_S: Final = 3.0
_CHECKED: Final = ("kafka", "clickhouse", "api")


@dataclass(frozen=True)
class Listed:
    """A task of the part."""

    id: int
    name: str
    kind: str
    """The file and the name of its coroutine."""
    in_main_loop: bool
    """Not in one of another thread, as the consumers of Faust are."""


class Part:
    """The part, what it is fed, and how far it has come."""

    def __init__(self, name: str, directory: Path, bootstrap: str, clickhouse: ClickHouseSettings) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._directory = directory
        self._bootstrap = bootstrap
        self._port = free_port()
        self._number = time.time_ns() // 1_000
        self._topics = sorted({topic for _, topic in GROUPS[name]} or FOLLOWED)
        self._alerts = 0
        self._fed_at = 0.0
        self._watch = Watch(bootstrap, [*GROUPS[name]])
        flags = ["--metrics-port", str(self._port)] if COMMANDS[name][0] == "worker" else []
        self.child = Child(
            name,
            [sys.executable, str(_ENTRY), str(directory), *COMMANDS[name], *flags],
            directory / f"{name}.log",
            self._env(clickhouse),
        )

    def start(self) -> None:
        """Start it, and the watch over its groups; returns at once."""
        if GROUPS[self.name]:
            self._watch.start()
        self.child.start()

    def stop(self) -> None:
        self.child.stop()
        self._watch.stop()

    @property
    def look(self) -> Look:
        """What was last seen of its groups."""
        return self._watch.last

    def ask(self, path: str) -> httpx.Response | None:
        """What it answers over HTTP; None when it does not."""
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}{path}", timeout=5, trust_env=False)
        except httpx.TransportError:
            return None

    def tasks(self) -> list[Listed]:
        """All tasks of its event loops."""
        return [Listed(**each) for each in self._told({"do": "list"})]

    def end(self, task: Listed, how: str) -> bool:
        """End a task from inside, by a cancellation or by an error of what it waits for; whether it could
        be."""
        return bool(self._told({"do": "end", "task": task.id, "how": how}))

    def feed(self) -> Mapping[str, Mapping[int, int]]:
        """Publish to all its topics, and return the offsets behind what was published."""
        return asyncio.run(self._feed())

    def has_done(self, ends: Mapping[str, Mapping[int, int]]) -> bool:
        """Whether it has acknowledged everything before these offsets; or, without a group, has read it."""
        if not GROUPS[self.name]:
            return time.monotonic() > self._fed_at + _PROBED_WITHIN_S and self._has_read()
        look = self.look
        return all(
            look.acknowledged.get((group, topic), {}).get(partition, 0) >= end
            for group, topic in GROUPS[self.name]
            for partition, end in ends[topic].items()
        )

    def _has_read(self) -> bool:
        """As the API says it of itself: all alerts are known, and nothing of the windows is behind."""
        ready, metrics = self.ask("/health/ready"), self.ask("/metrics")
        if ready is None or metrics is None:
            return False
        checks = [check for check in ready.json()["checks"] if check["part"] in _CHECKED]
        families = text_string_to_metric_families(metrics.text)
        alerts = sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == "chatgauge_api_open_alerts"
        )
        return alerts >= self._alerts and all(check["ok"] and not check["lag"] for check in checks)

    async def _feed(self) -> dict[str, dict[int, int]]:
        ends: dict[str, dict[int, int]] = {}
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap) as producer:
            for topic in self._topics:
                for partition in await producer.partitions_for(topic):
                    for _ in range(_RECORDS):
                        self._number += 1
                        self._alerts += topic == ALERTS.name
                        value = VALUES[topic](self._number, partition, PARTITIONS)
                        key = str(self._number).encode()
                        sent = await producer.send_and_wait(topic, value, key=key, partition=partition)
                    ends.setdefault(topic, {})[partition] = sent.offset + 1
        self._fed_at = time.monotonic()
        return ends

    def _told(self, what: Mapping[str, object]) -> Any:
        ask, answer = self._directory / "ask", self._directory / "answer"
        answer.unlink(missing_ok=True)
        new = ask.with_suffix(".new")
        new.write_text(json.dumps(what))
        new.rename(ask)
        wait_until(
            f"{self.name} answers {what['do']}",
            lambda: answer.exists() or not self.child.running,
            _ANSWERED_WITHIN_S,
        )
        if not answer.exists():  # it has ended at once
            return what["do"] == "end"
        return json.loads(answer.read_text())["found"]

    def _env(self, clickhouse: ClickHouseSettings) -> dict[str, str]:
        return {
            "PYTHONPATH": str(_CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "CHATGAUGE_DATA": str(self._directory),
            "CHATGAUGE_KAFKA_BOOTSTRAP": self._bootstrap,
            "CHATGAUGE_KAFKA_PARTITIONS": str(PARTITIONS),
            "CHATGAUGE_CLICKHOUSE_HOST": clickhouse.host,
            "CHATGAUGE_CLICKHOUSE_PORT": str(clickhouse.port),
            "CHATGAUGE_CLICKHOUSE_USER": clickhouse.user,
            "CHATGAUGE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
            "CHATGAUGE_CLICKHOUSE_DATABASE": clickhouse.database,
            "CHATGAUGE_SINK_METRICS_PORT": str(self._port),
            "CHATGAUGE_SINK_LINGER": "PT0.1S",
            "CHATGAUGE_API_PORT": str(self._port),
            "CHATGAUGE_API_PARTS": "{}",
        }
