"""The product as a user runs it: `chatgauge up`, on ports and in a directory of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import psutil
from clickhouse_connect.driver.client import Client

from infra.ports import free_port
from infra.process import Child
from tests.end_to_end.log import Log

COMMAND = Path(sys.executable).with_name("chatgauge")
WITHIN_S = 240.0
"""Every wait ends after so long, with what was waited for: far more than a quiet machine takes."""

WORKERS = {"rollup": "chatgauge-rollup", "usage": "chatgauge-usage"}
"""The workers and their consumer groups."""
SUNK = ("chat.requests", "chat.spans", "chat.samples", "chat.windows", "chat.usage", "chat.dead-letters")
"""The topics that go to ClickHouse; a sink's consumer group is called after its topic."""


def wait_until(what: str, condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Return when it holds; fail, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain: {what}"
        time.sleep(0.2)


def output_of(env: Mapping[str, str], arguments: Sequence[object], within_s: float = WITHIN_S) -> str:
    """What a `chatgauge` command says, which has to succeed."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Stack:
    """Kafka, ClickHouse, all workers, the sinks and the API, under `chatgauge up --no-simulate`."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.data = directory / "data"
        names = ("KAFKA", "CLICKHOUSE", "API", "ROLLUP", "USAGE", "ALERTS", "DELIVERIES", "SINK")
        ports = {name: str(free_port()) for name in names}
        self.env: Mapping[str, str] = {
            "CHATGAUGE_KAFKA_BOOTSTRAP": f"127.0.0.1:{ports['KAFKA']}",
            "CHATGAUGE_CLICKHOUSE_PORT": ports["CLICKHOUSE"],
            "CHATGAUGE_API_PORT": ports["API"],
            "CHATGAUGE_WORKER_ROLLUP_METRICS_PORT": ports["ROLLUP"],
            "CHATGAUGE_WORKER_USAGE_METRICS_PORT": ports["USAGE"],
            "CHATGAUGE_WORKER_ALERTS_METRICS_PORT": ports["ALERTS"],
            "CHATGAUGE_WORKER_DELIVERIES_METRICS_PORT": ports["DELIVERIES"],
            "CHATGAUGE_SINK_METRICS_PORT": ports["SINK"],
            "CHATGAUGE_WINDOWS_TIMEZONE": "UTC",
            # So that what the streams have counted can be seen: tests rebuild when they want to.
            "CHATGAUGE_SINK_REBUILD_QUIET": "PT1H",
            "CHATGAUGE_SINK_REBUILD_DELAY": "PT1H",
            **(settings or {}),
        }
        self.log = Log(self.env["CHATGAUGE_KAFKA_BOOTSTRAP"])
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{ports['API']}", timeout=60, trust_env=False)
        command = [str(COMMAND), "up", "--no-simulate", "--data", str(self.data)]
        self._up = Child("chatgauge up", command, directory / "up.log", self.env)

    def start(self) -> None:
        """Return when `/health/ready` says so."""
        self._up.start()
        self._up.wait_until(self._ready, timeout=WITHIN_S)

    def stop(self) -> None:
        """As Ctrl-C does."""
        self._up.stop(grace=60)

    def _ready(self) -> bool:
        try:
            return self.api.get("/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def run(self, *arguments: object) -> str:
        """A `chatgauge` command, to its end; its output."""
        return output_of(os.environ | self.env, arguments)

    @contextmanager
    def running(self, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
        """A `chatgauge` command, beside the test; ended, if need be, as Ctrl-C does."""
        with subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            env=os.environ | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)

    def signal(self, part: str, number: signal.Signals) -> None:
        """Send a signal to a part (`rollup`, `usage`, `sink`), and wait until another has taken its place."""
        before = self.pid_of(part)
        assert before is not None, f"{part} is not running"
        os.kill(before, number)
        wait_until(f"{part} is started again", lambda: self.pid_of(part) not in (None, before))

    def pid_of(self, part: str) -> int | None:
        """The process id of a part; None while it doesn't run."""
        words = ["worker", part] if part in WORKERS else [part]
        assert self._up.pid is not None
        for child in psutil.Process(self._up.pid).children():
            try:
                if child.cmdline()[-len(words) :] == words:
                    return child.pid
            except psutil.Error:
                continue  # it has just ended
        return None

    def wait_until_settled(self) -> None:
        """Return when everything sent so far is acknowledged, and all that came of it is in ClickHouse."""
        for group in WORKERS.values():
            self._wait_until_acknowledged(group, "chat.requests")
        for topic in SUNK:
            self._wait_until_acknowledged(f"chatgauge-sink-{topic}", topic)

    def _wait_until_acknowledged(self, group: str, topic: str) -> None:
        wait_until(f"{group} has acknowledged {topic}", lambda: self.log.left(group, topic) == 0)

    def query(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows from ClickHouse."""
        with self._client() as client:
            return [tuple(row) for row in client.query(sql, parameters=parameters).result_rows]

    def named_rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows from ClickHouse, with the names of their columns."""
        with self._client() as client:
            return [dict(row) for row in client.query(sql, parameters=parameters).named_results()]

    def _client(self) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=int(self.env["CHATGAUGE_CLICKHOUSE_PORT"]), database="chatgauge"
        )
