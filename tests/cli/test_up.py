"""`chatgauge up` from outside: what a person sees, and what is left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from infra.ports import free_port

READY_WITHIN = 150.0  # of which a quiet machine takes a tenth
pytestmark = pytest.mark.timeout(420)


class Up:
    """A running `chatgauge up`, with its output and every process that it ever started."""

    def __init__(self, data: Path, *options: str, env: dict[str, str] | None = None) -> None:
        names = ("kafka", "clickhouse", "api", "rollup", "usage", "alerts", "deliveries", "sink")
        self.ports = {name: free_port() for name in names}
        self.output = data.with_suffix(".out")
        self._read = 0
        with self.output.open("ab") as out:
            self._read = out.tell()
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "cli.main", "up", "--data", str(data)),
                    *("--kafka-port", str(self.ports["kafka"])),
                    *("--clickhouse-port", str(self.ports["clickhouse"])),
                    *("--api-port", str(self.ports["api"])),
                    *options,
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {
                    "CHATGAUGE_WORKER_ROLLUP_METRICS_PORT": str(self.ports["rollup"]),
                    "CHATGAUGE_WORKER_USAGE_METRICS_PORT": str(self.ports["usage"]),
                    "CHATGAUGE_WORKER_ALERTS_METRICS_PORT": str(self.ports["alerts"]),
                    "CHATGAUGE_WORKER_DELIVERIES_METRICS_PORT": str(self.ports["deliveries"]),
                    "CHATGAUGE_SINK_METRICS_PORT": str(self.ports["sink"]),
                }
                | (env or {}),
            )
        self.children: set[psutil.Process] = set()

    @property
    def text(self) -> str:
        with self.output.open() as out:
            out.seek(self._read)
            return out.read()

    def wait_for(self, words: str, seconds: float = READY_WITHIN) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            self.see_children()
            time.sleep(0.1)
        self.see_children()

    def see_children(self) -> None:
        try:
            self.children.update(psutil.Process(self.process.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return

    def end(self, number: signal.Signals, seconds: float = 120.0) -> int:
        self.see_children()
        self.process.send_signal(number)
        return self.process.wait(seconds)

    @property
    def strays(self) -> list[str]:
        gone, alive = psutil.wait_procs(self.children, timeout=10)
        assert gone
        return [" ".join(process.cmdline()) for process in alive]


@pytest.fixture
def started() -> Iterator[list[Up]]:
    """Whatever a test starts is gone after it."""
    ups: list[Up] = []
    yield ups
    for up in ups:
        up.see_children()
        up.process.kill()
        up.process.wait()
        for child in up.children:
            if child.is_running():
                child.kill()


def test_it_starts_stops_without_strays_and_goes_on_from_its_data(tmp_path: Path, started: list[Up]) -> None:
    first = Up(tmp_path / "var", "--no-simulate")
    started.append(first)
    first.wait_for("ready after")
    address = re.search(r"open (http://127\.0\.0\.1:\d+)", first.text)
    assert address is not None
    assert httpx.get(f"{address[1]}/health/live").status_code == 200
    sent = subprocess.run(
        [sys.executable, "-m", "cli.main", "simulate", "--count", "200", "--speed", "max"],
        env=os.environ | {"CHATGAUGE_KAFKA_BOOTSTRAP": f"127.0.0.1:{first.ports['kafka']}"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert "sent" in sent.stdout
    wait_for_events(first, 200)

    assert first.end(signal.SIGINT) == 0
    assert first.strays == []
    stopped = re.findall(r"(\w+): stopped", first.text)
    assert stopped == ["api", "deliveries", "alerts", "rollup", "usage", "sink", "clickhouse", "kafka"]

    second = Up(tmp_path / "var", "--no-simulate")
    started.append(second)
    second.wait_for("ready after")
    assert "of which 0 new" in second.text
    assert events(second) == 200

    # Killed without a chance to stop anything: the kernel takes the children along.
    second.end(signal.SIGKILL)
    assert second.strays == []


def events(up: Up) -> int:
    answer = httpx.post(
        f"http://127.0.0.1:{up.ports['clickhouse']}/",
        content="SELECT count() FROM chatgauge.events WHERE phase = 'finished'",
    )
    assert answer.status_code == 200, answer.text
    return int(answer.text)


def wait_for_events(up: Up, count: int, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while (found := events(up)) < count:
        assert time.monotonic() < deadline, f"{found} of {count} events; {up.text}"
        time.sleep(0.2)


def test_a_signal_while_it_starts_stops_it_too(tmp_path: Path, started: list[Up]) -> None:
    up = Up(tmp_path / "var", "--no-simulate")
    started.append(up)
    up.wait_for("clickhouse: starting")

    assert up.end(signal.SIGTERM) == 0
    assert "stopped; the data stay" in up.text
    up.see_children()
    assert psutil.wait_procs(up.children, timeout=10)[1] == []


def test_one_directory_is_for_one(tmp_path: Path, started: list[Up]) -> None:
    first = Up(tmp_path / "var", "--no-simulate")
    started.append(first)
    first.wait_for("kafka: starting")

    second = Up(tmp_path / "var", "--no-simulate")
    started.append(second)

    assert second.process.wait(60) == 1
    assert f"in use by another Chatgauge (pid {first.process.pid}): stop it, or choose" in second.text


@pytest.mark.parametrize(
    ("option", "setting"),
    [
        ("--kafka-port", "CHATGAUGE_KAFKA_BOOTSTRAP"),
        ("--clickhouse-port", "CHATGAUGE_CLICKHOUSE_PORT"),
        ("--api-port", "CHATGAUGE_API_PORT"),
    ],
)
def test_a_taken_port_is_one_clear_line(option: str, setting: str, tmp_path: Path, started: list[Up]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        up = Up(tmp_path / "var", option, str(port))
        started.append(up)

        assert up.process.wait(60) == 1
        assert up.text.count("\n") == 1
        assert f"port {port} is taken by pid {os.getpid()}" in up.text
        assert f"stop it or set {setting} (or {option})" in up.text


def test_a_missing_java_is_one_clear_line(tmp_path: Path, started: list[Up]) -> None:
    up = Up(tmp_path / "var", env={"PATH": str(tmp_path), "JAVA_HOME": ""})
    started.append(up)

    assert up.process.wait(60) == 1
    assert up.text.count("\n") == 1
    assert "no «java» on the PATH: install Java 17 or newer" in up.text


def test_a_kafka_elsewhere_is_not_started_here(tmp_path: Path) -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "cli.main", "up", "--data", str(tmp_path)],
        env=os.environ | {"CHATGAUGE_KAFKA_BOOTSTRAP": "kafka.example:9092"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1
    assert "kafka.example:9092" in refused.stderr
    assert "start the parts one by one" in refused.stderr
