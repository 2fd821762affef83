"""The product's parts as processes of their own, as they are installed: started, watched, stopped by pid."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from bench.peers import ROOT
from infra import topics
from infra.clickhouse import LocalClickHouse
from infra.kafka import LocalKafka
from infra.ports import free_port
from infra.process import Child
from infra.settings import RetentionSettings
from schemas.topics import REQUESTS, TOPICS
from sinks import tables

PARTITIONS = 4
HEAP = "1g"


class NotInTimeError(RuntimeError):
    """Something that was waited for did not happen; the message is for a person."""


@dataclass
class Stack:
    """A Kafka of its own with all topics, and what is started beside it."""

    home: Path
    kafka: LocalKafka
    clickhouse: LocalClickHouse | None = None
    parts: dict[str, Child] = field(default_factory=dict)

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def start_worker(self, kind: str, name: str | None = None, env: Mapping[str, str] | None = None) -> Child:
        """`chatgauge worker` of a kind; `env` are further settings."""
        return self._start(name or kind, ["worker", kind, "--metrics-port", "0"], env)

    def start_sink(self, name: str = "sink") -> Child:
        """`chatgauge sink`, all of it."""
        return self._start(name, ["sink"])

    def _start(self, name: str, command: list[str], more: Mapping[str, str] | None = None) -> Child:
        env = {
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "",  # as installed: modules are compiled once
            "CHATGAUGE_KAFKA_BOOTSTRAP": self.bootstrap,
            "CHATGAUGE_KAFKA_PARTITIONS": str(PARTITIONS),
            "CHATGAUGE_SINK_METRICS_PORT": str(free_port()),
        }
        if self.clickhouse is not None:
            settings = self.clickhouse.settings
            env |= {
                "CHATGAUGE_CLICKHOUSE_HOST": settings.host,
                "CHATGAUGE_CLICKHOUSE_PORT": str(settings.port),
            }
        env |= more or {}
        child = Child(name, [sys.executable, "-m", "cli.main", *command], self.home / f"{name}.log", env)
        child.start()
        self.parts[name] = child
        return child

    def stop(self, name: str, *, hard: bool = False) -> None:
        """Stop one part; `hard`: SIGKILL."""
        child = self.parts.pop(name)
        if hard:
            child.kill()
        child.stop()

    def close(self) -> None:
        for name in list(self.parts):
            self.stop(name)

    def processes(self) -> dict[str, psutil.Process]:
        """Everything that works for the product here, by name."""
        servers = {"kafka": self.kafka.process}
        if self.clickhouse is not None:
            servers["clickhouse"] = self.clickhouse.process
        running = {**servers, **self.parts}
        return {name: psutil.Process(child.pid) for name, child in running.items() if child.pid}

    def cpu_seconds(self) -> dict[str, float]:
        """What each process has used so far, on all cores."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes().items()}

    def rss_mb(self) -> dict[str, float]:
        """The resident memory of each process, in MiB."""
        return {name: process.memory_info().rss / 2**20 for name, process in self.processes().items()}

    def check(self) -> None:
        """Raises when a part has ended by itself."""
        for name, child in self.parts.items():
            if not child.running:
                raise NotInTimeError(f"{name} ended with status {child.returncode}; it said:\n{child.tail()}")

    def wait(self, what: str, ready: Callable[[], bool], within_s: float, every_s: float = 0.05) -> None:
        """Block until `ready()`. Raises NotInTimeError when that takes longer, or when a part ends."""
        deadline = time.monotonic() + within_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise NotInTimeError(f"{what}: not within {within_s:.0f} s")
            time.sleep(every_s)


def used(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds between two readings."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


@contextmanager
def running(
    home: Path, *, clickhouse: bool = False, retention: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Kafka with the product's topics, and ClickHouse with its tables; all parts end with the block.

    `retention` goes on top of the configuration of `chat.requests`.
    """
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stops:
        kafka = LocalKafka(home / "kafka", port=free_port(), heap=HEAP, partitions=PARTITIONS)
        stops.callback(kafka.stop)
        kafka.start()
        wanted = [
            replace(topic, config={**topic.config, **(retention or {})}) if topic is REQUESTS else topic
            for topic in TOPICS
        ]
        asyncio.run(topics.create(kafka.bootstrap, partitions=PARTITIONS, topics=wanted))
        stack = Stack(home, kafka)
        if clickhouse:
            stack.clickhouse = LocalClickHouse(home / "clickhouse", port=free_port())
            stops.callback(stack.clickhouse.stop)
            stack.clickhouse.start()
            tables.prepare(stack.clickhouse.settings, RetentionSettings())
        stops.callback(stack.close)
        yield stack
