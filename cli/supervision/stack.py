"""What runs on this machine under `chatgauge up`: which parts, where, with what settings."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.supervision.health import ask
from cli.supervision.part import Part
from infra.clickhouse import LocalClickHouse
from infra.errors import PortTakenError
from infra.kafka import LocalKafka
from infra.local_server import LocalServer
from infra.ports import require_free
from infra.process import Child
from infra.settings import (
    ApiSettings,
    ClickHouseSettings,
    KafkaSettings,
    LivenessSettings,
    NotificationSettings,
    SinkSettings,
    WorkerSettings,
)

_LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Ports:
    """Every port that is listened on."""

    kafka: int
    clickhouse: int
    api: int
    rollup: int
    usage: int
    alerts: int
    deliveries: int
    sink: int

    @classmethod
    def chosen(
        cls, kafka: int | None = None, clickhouse: int | None = None, api: int | None = None
    ) -> "Ports":
        """Those given, and the settings' for the others."""
        worker = WorkerSettings()
        return cls(
            kafka=kafka or local_port(KafkaSettings().bootstrap),
            clickhouse=clickhouse or ClickHouseSettings().port,
            api=api or ApiSettings().port,
            rollup=worker.rollup_metrics_port,
            usage=worker.usage_metrics_port,
            alerts=worker.alerts_metrics_port,
            deliveries=worker.deliveries_metrics_port,
            sink=SinkSettings().metrics_port,
        )

    def require_free(self) -> None:
        """`PortTakenError`, with how to choose another, when one is taken or two are the same."""
        remedies = {
            "kafka": "set CHATGAUGE_KAFKA_BOOTSTRAP (or --kafka-port) to another port",
            "clickhouse": "set CHATGAUGE_CLICKHOUSE_PORT (or --clickhouse-port) to another port",
            "api": "set CHATGAUGE_API_PORT (or --api-port) to another port",
            "rollup": "set CHATGAUGE_WORKER_ROLLUP_METRICS_PORT to another port",
            "usage": "set CHATGAUGE_WORKER_USAGE_METRICS_PORT to another port",
            "alerts": "set CHATGAUGE_WORKER_ALERTS_METRICS_PORT to another port",
            "deliveries": "set CHATGAUGE_WORKER_DELIVERIES_METRICS_PORT to another port",
            "sink": "set CHATGAUGE_SINK_METRICS_PORT to another port",
        }
        seen: dict[int, str] = {}
        for name, remedy in remedies.items():
            port: int = getattr(self, name)
            if port in seen:
                raise PortTakenError(f"port {port} is given to both {seen[port]} and {name}: {remedy}")
            seen[port] = name
            require_free(port, remedy)


def local_port(bootstrap: str) -> int:
    """The port of a bootstrap address on this machine; `PortTakenError` for one elsewhere."""
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    if host not in _LOCAL or not port.isdecimal():
        raise PortTakenError(
            f"CHATGAUGE_KAFKA_BOOTSTRAP is {bootstrap}, and `chatgauge up` runs a Kafka of its own on this "
            "machine: unset it, or start the parts one by one (worker, sink, api) against that Kafka"
        )
    return int(port)


def address(ports: Ports) -> str:
    """Where people reach the API."""
    given = NotificationSettings()
    chosen = "public_url" in given.model_fields_set
    return given.public_url if chosen else f"http://127.0.0.1:{ports.api}"


@dataclass(frozen=True)
class Stack:
    """The parts, in the order in which they are started and (from the end) stopped."""

    kafka: LocalKafka
    clickhouse: LocalClickHouse
    servers: Sequence[Part]
    services: Sequence[Part]
    traffic: Sequence[Part]
    ports: Ports
    logs: Path

    @property
    def parts(self) -> list[Part]:
        return [*self.servers, *self.services, *self.traffic]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.ports.api}"


def build(data: Path, ports: Ports, *, simulate: bool) -> Stack:
    """All parts, with their data and logs under `data`. Nothing is started."""
    logs = data / "log"
    given = ClickHouseSettings()
    kafka = LocalKafka(data / "kafka", port=ports.kafka, log=logs / "kafka.log")
    clickhouse = LocalClickHouse(
        data / "clickhouse",
        port=ports.clickhouse,
        user=given.user,
        password=given.password.get_secret_value(),
        database=given.database,
        log=logs / "clickhouse.log",
    )
    env = {
        "CHATGAUGE_DATA": str(data),
        "CHATGAUGE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "CHATGAUGE_KAFKA_REPLICATION": "1",
        "CHATGAUGE_CLICKHOUSE_HOST": "127.0.0.1",
        "CHATGAUGE_CLICKHOUSE_PORT": str(ports.clickhouse),
        "CHATGAUGE_CLICKHOUSE_SECURE": "false",
        "CHATGAUGE_API_PORT": str(ports.api),
        "CHATGAUGE_NOTIFICATIONS_PUBLIC_URL": address(ports),
        "CHATGAUGE_API_PARTS": json.dumps(
            {
                part: f"http://127.0.0.1:{port}/metrics"
                for part, port in (
                    ("rollup", ports.rollup),
                    ("usage", ports.usage),
                    ("alerts", ports.alerts),
                    ("deliveries", ports.deliveries),
                    ("sink", ports.sink),
                )
            }
        ),
        "PYTHONUNBUFFERED": "1",
    }

    within = LivenessSettings().start_within.total_seconds()

    def command(name: str, about: str, arguments: list[str], port: int | None = None) -> Part:
        # -P: what is in the working directory, a file api.py perhaps, is none of ours.
        line = [sys.executable, "-P", "-m", "cli.main", *arguments]
        child = Child(name, line, logs / f"{name}.log", env)

        def ready() -> bool:
            return port is None or ask(port) is not None

        return Part(name, about, lambda: child, ready, within, health=port)

    def server(name: str, about: str, local: LocalServer) -> Part:
        return Part(name, about, local.prepare, local.answers, within, grace=20, storage=True)

    return Stack(
        kafka=kafka,
        clickhouse=clickhouse,
        servers=[
            server("kafka", f"127.0.0.1:{ports.kafka}", kafka),
            server("clickhouse", f"http://127.0.0.1:{ports.clickhouse}", clickhouse),
        ],
        services=[
            command("sink", "to ClickHouse", ["sink"], ports.sink),
            command("usage", "worker", ["worker", "usage"], ports.usage),
            command("rollup", "worker", ["worker", "rollup"], ports.rollup),
            command("alerts", "worker", ["worker", "alerts"], ports.alerts),
            command("deliveries", "worker", ["worker", "deliveries"], ports.deliveries),
            command("api", f"http://127.0.0.1:{ports.api}", ["api"], ports.api),
        ],
        traffic=[command("simulator", "made-up traffic", ["simulate"])] if simulate else [],
        ports=ports,
        logs=logs,
    )
