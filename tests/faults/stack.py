"""The real parts, each a process of its own, behind proxies; whoever ends is started again.

the product's parts ── proxy ── Kafka ── the feed, the recount, the watch
         └──────────── proxy ── ClickHouse ── the recount
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cli.supervision.part import failures_after, pause_after
from infra import topics
from infra.clickhouse import LocalClickHouse
from infra.errors import LocalServerError
from infra.kafka import LocalKafka, Outside
from infra.ports import free_port
from infra.process import Child
from schemas.topics import NOTIFICATIONS, REQUESTS
from streams.endpoints.secrets import open_vault
from tests.end_to_end.stack import SUNK, WORKERS
from tests.faults.disk import Disk
from tests.faults.process import End, Process
from tests.faults.proxy import Proxy
from tests.faults.watch import Watch

PARTITIONS = 4
PARTS: Mapping[str, tuple[str, ...]] = {
    "rollup": ("worker", "rollup"),
    "usage": ("worker", "usage"),
    "deliveries": ("worker", "deliveries"),
    "sink": ("sink",),
}
"""The parts under test, and the commands that run them."""
GROUP: Mapping[str, tuple[str, str]] = {
    **{name: (group, REQUESTS.name) for name, group in WORKERS.items()},
    "deliveries": ("chatgauge-deliveries", NOTIFICATIONS.name),
    "sink": (f"chatgauge-sink-{REQUESTS.name}", REQUESTS.name),
}
"""The group whose acknowledgements tell how far a part has come, and the topic that it reads."""
SETTLING = [
    *GROUP.values(),
    *((f"chatgauge-sink-{topic}", topic) for topic in SUNK if topic != REQUESTS.name),
]
"""Groups and topics: when all is acknowledged, all is counted and written."""
SERVERS = ("kafka", "clickhouse")

_ENTRY = Path(__file__).with_name("part.py")
_CHECKOUT = Path(__file__).parents[2]
_AGAIN_AFTER_S = 0.2


class Stack:
    """Kafka, ClickHouse, the workers that count and the one that delivers, and the sinks.

    All its methods belong to the thread that made it, which must outlive the processes (`infra.pdeathsig`);
    `tend` has to be called again and again.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.logs = directory / "log"
        self.data = directory / "data"
        self.ended: list[End] = []
        self.processes: dict[str, Process] = {}
        self.kafka_proxy = Proxy(("127.0.0.1", free_port()))
        self.clickhouse_proxy = Proxy(("127.0.0.1", free_port()))
        self.disk = Disk(directory / "clickhouse")
        self.clickhouse_log = self.logs / "clickhouse.log"

    def start(self) -> None:
        """Start everything; returns when Kafka and ClickHouse serve, and the parts have been started."""
        self.kafka_proxy.start()
        self.clickhouse_proxy.start()
        self.disk.mount()
        outside = Outside(self.kafka_proxy.target[1], self.kafka_proxy.port)
        self.kafka = LocalKafka(
            self.directory / "kafka",
            port=free_port(),
            heap="384m",
            partitions=PARTITIONS,
            log=self.logs / "kafka.log",
            outside=outside,
        )
        self.clickhouse = LocalClickHouse(
            self.disk.path / "data",
            port=self.clickhouse_proxy.target[1],
            log=self.clickhouse_log,
            options=("--memory", "768"),
        )
        for name, server in zip(SERVERS, (self.kafka, self.clickhouse), strict=True):
            server.launch()
            self.processes[name] = Process(name, server.process, self.directory, server=server)
        for name in SERVERS:
            server = self.processes[name].server
            assert server is not None
            server.wait_ready()
        self.watch = Watch(self.kafka.bootstrap, SETTLING)
        asyncio.run(topics.create(self.kafka.bootstrap, partitions=PARTITIONS))
        self.watch.start()
        open_vault(None, self.data, create=True)
        for name, command in PARTS.items():
            self._start_part(name, command)

    def stop(self) -> None:
        """End everything, the servers last; nothing of it runs afterwards."""
        for process in self.processes.values():
            process.wanted = False
            process.signal(signal.SIGCONT)
        for name, process in reversed(self.processes.items()):
            if name not in SERVERS:
                process.child.terminate()
        if hasattr(self, "watch"):
            self.watch.stop()
        for process in reversed(self.processes.values()):
            process.child.stop()
        self.kafka_proxy.stop()
        self.clickhouse_proxy.stop()
        self.disk.unmount()

    def times_short_of_space(self) -> int:
        """How often ClickHouse has said that its disk is nearly full."""
        return self.clickhouse_log.read_text("utf-8").count("nothing is merged or inserted")

    def tend(self) -> None:
        """Start again what has ended, as a supervisor does: at once, and later if it keeps ending."""
        now = time.monotonic()
        for process in list(self.processes.values()):
            if process.running or now < process.again_at:
                continue
            if not process.wanted:
                if process.name not in (*SERVERS, *PARTS):
                    del self.processes[process.name]
                continue
            if process.again_at == 0.0:
                self._plan(process, now)
            else:
                process.again_at = 0.0
                self._start(process, now)

    def join(self, name: str) -> Process:
        """A second process of a part."""
        number = 2
        while f"{name}-{number}" in self.processes:
            number += 1
        return self._start_part(f"{name}-{number}", PARTS[name])

    def leave(self, process: Process) -> None:
        """Have it leave as when asked to stop; it isn't started again."""
        process.wanted = False
        process.signal(signal.SIGTERM)

    def resident(self) -> dict[str, int]:
        """Bytes of memory by process."""
        return {name: process.resident for name, process in self.processes.items()}

    def _plan(self, process: Process, now: float) -> None:
        """When an ended process is to be started again."""
        pause = _AGAIN_AFTER_S
        if not process.killed:
            process.failures = failures_after(process.failures, now - process.since)
            pause = pause_after(process.failures)
            self.ended.append(End(process.name, process.child.returncode, process.child.tail(12)))
        process.killed = False
        process.again_at = now + pause

    def _start(self, process: Process, now: float) -> None:
        process.before.append(process.pid)
        process.since = now
        try:
            if process.server is not None:
                process.child = process.server.prepare()
            process.child.start()
        except LocalServerError as trouble:
            self.ended.append(End(process.name, None, str(trouble)))
            process.again_at = now + 1.0

    def _start_part(self, name: str, command: tuple[str, ...]) -> Process:
        directory = self.directory / "points" / name
        directory.mkdir(parents=True, exist_ok=True)
        metrics_port = free_port()
        arguments = [*command, *(["--metrics-port", str(metrics_port)] if command[0] == "worker" else [])]
        child = Child(
            name,
            [sys.executable, str(_ENTRY), str(directory), *arguments],
            self.logs / f"{name}.log",
            self._env(metrics_port),
        )
        child.start()
        process = self.processes[name] = Process(name, child, directory, metrics_port, since=time.monotonic())
        return process

    def _env(self, metrics_port: int) -> dict[str, str]:
        return {
            "PYTHONPATH": str(_CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "RUST_BACKTRACE": "0",
            "CHATGAUGE_KAFKA_BOOTSTRAP": f"127.0.0.1:{self.kafka_proxy.port}",
            "CHATGAUGE_KAFKA_PARTITIONS": str(PARTITIONS),
            "CHATGAUGE_DATA": str(self.data),
            "CHATGAUGE_DELIVERY_ALLOW": json.dumps(["127.0.0.1"]),
            "CHATGAUGE_DELIVERY_SCHEDULE": json.dumps([f"PT{seconds}S" for seconds in (1, 2, *(5,) * 30)]),
            "CHATGAUGE_CLICKHOUSE_HOST": "127.0.0.1",
            "CHATGAUGE_CLICKHOUSE_PORT": str(self.clickhouse_proxy.port),
            "CHATGAUGE_CLICKHOUSE_SECURE": "false",
            "CHATGAUGE_SINK_METRICS_PORT": str(metrics_port),
            "CHATGAUGE_SINK_OPEN_PANE_INTERVAL": "PT2S",
            "CHATGAUGE_WINDOWS_TIMEZONE": "UTC",
        }
