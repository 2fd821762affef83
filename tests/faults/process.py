"""One process of the stack: signals, the points that it stops at, its tasks, its memory and metrics."""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from infra.local_server import LocalServer
from infra.process import Child


@dataclass(frozen=True)
class End:
    """A process that nobody asked to end has ended."""

    name: str
    status: int | None
    said: str


@dataclass
class Process:
    """One process of the stack, kept running while it is wanted."""

    name: str
    child: Child
    directory: Path
    """Where its points are armed."""
    metrics_port: int = 0
    server: LocalServer | None = None
    wanted: bool = True
    killed: bool = False
    failures: int = 0
    since: float = 0.0
    again_at: float = 0.0
    before: list[int] = field(default_factory=list)
    """Its earlier process ids."""
    continued: list[float] = field(default_factory=list)
    """When it was continued, in seconds since 1970."""

    @property
    def pid(self) -> int:
        pid = self.child.pid
        assert pid is not None, f"{self.name} was never started"
        return pid

    @property
    def running(self) -> bool:
        return self.child.running

    def signal(self, number: signal.Signals) -> None:
        """To the process itself, if it runs."""
        if self.running:
            self.killed = self.killed or number in (signal.SIGKILL, signal.SIGTERM)
            if number == signal.SIGCONT:
                self.continued.append(time.time())
            os.kill(self.pid, number)

    def arm(self, point: str, word: str = "stop") -> None:
        """The next time this process, or its successor, comes by the point, it stops there."""
        (self.directory / f"{point}.reached").unlink(missing_ok=True)
        new = self.directory / f"{point}.armed"
        new.write_text(word, encoding="utf-8")
        new.rename(self.directory / point)

    def disarm(self, point: str) -> None:
        (self.directory / point).unlink(missing_ok=True)

    def has_reached(self, point: str) -> bool:
        """Whether it has come there since that was armed."""
        return (self.directory / f"{point}.reached").exists()

    def ask(self, what: Mapping[str, object]) -> None:
        """Ask for its tasks, or for the end of one (`tests.liveness.part`); `answer` has what comes of it."""
        (self.directory / "answer").unlink(missing_ok=True)
        new = self.directory / "ask.new"
        new.write_text(json.dumps(what), encoding="utf-8")
        new.rename(self.directory / "ask")

    def answer(self) -> Any:
        """What was found, once it has answered. Raises FileNotFoundError before that."""
        return json.loads((self.directory / "answer").read_text(encoding="utf-8"))["found"]

    def has_answered(self) -> bool:
        """Whether it has, since it was asked."""
        return (self.directory / "answer").exists()

    @property
    def resident(self) -> int:
        """Bytes of memory; 0 while it doesn't run."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss) if self.running else 0
        except psutil.Error:
            return 0

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 when it can't be had."""
        try:
            page = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=2, trust_env=False).text
        except httpx.TransportError:
            return 0.0
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        )
