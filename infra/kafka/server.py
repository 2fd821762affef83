"""A real Apache Kafka on this machine: one node, broker and controller in one process (KRaft)."""

import asyncio
import subprocess
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from infra.errors import StartFailedError
from infra.kafka import jars
from infra.kafka.java import require_java
from infra.local_server import LocalServer
from infra.ports import answers, free_port, require_free
from infra.process import Child

_LOG4J = Path(__file__).with_name("log4j2.properties")
_SHORT_LIVED = "-XX:TieredStopAtLevel=1"
"""A Java that is gone in a second has no use for the optimising compiler."""
_LARGEST_BATCH = 16 * 1024 * 1024 + 64 * 1024
"""A window block of 16 MiB and the batch around it."""


@dataclass(frozen=True)
class Outside:
    """A listener for clients that come by another port, such as through a proxy."""

    port: int
    """Where Kafka listens."""
    reached_by: int
    """Where it tells these clients to come."""


class LocalKafka(LocalServer):
    """Kafka. Listens on 127.0.0.1 alone. Topics are never created by accident."""

    name = "Kafka"
    least_free = 512 * 1024 * 1024

    def __init__(
        self,
        data: Path,
        *,
        port: int,
        log: Path | None = None,
        heap: str = "512m",
        partitions: int = 1,
        outside: Outside | None = None,
    ) -> None:
        super().__init__(data)
        self.port = port
        self._outside = outside
        self._heap = heap
        self._partitions = partitions
        self._log = log or self.data / "kafka.log"

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> Child:
        """Check what it needs and format its storage on the first start: what is left is to start it."""
        java, classpath = require_java(), jars.require()
        require_free(self.port, "set CHATGAUGE_KAFKA_BOOTSTRAP (or --kafka-port) to another port")
        self._require_space()
        properties = self._write_properties()
        command = [
            java,
            f"-Xmx{self._heap}",
            "-Xms128m",
            "-XX:+ExitOnOutOfMemoryError",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={_LOG4J}",
            "-cp",
            f"{classpath}/*",
        ]
        if not (self.data / "log" / "meta.properties").exists():
            self._format(command, properties)
        self._child = Child("Kafka", [*command, "kafka.Kafka", str(properties)], self._log)
        return self._child

    def answers(self) -> bool:
        """Whether it serves clients. Not for use inside a running event loop."""
        return answers(self.port) and asyncio.run(_has_broker(self.bootstrap))

    def _write_properties(self) -> Path:
        # The controller talks only to itself: any free port will do, and a new one at each start.
        controller = free_port()
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        advertised = listeners
        if self._outside is not None:
            listeners += f",OUTSIDE://127.0.0.1:{self._outside.port}"
            advertised += f",OUTSIDE://127.0.0.1:{self._outside.reached_by}"
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": advertised,
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": ("PLAINTEXT:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
            "log.dirs": self.data / "log",
            "auto.create.topics.enable": "false",
            "num.partitions": self._partitions,
            "message.max.bytes": _LARGEST_BATCH,
            "replica.fetch.max.bytes": _LARGEST_BATCH,
            "replica.fetch.response.max.bytes": 2 * _LARGEST_BATCH,
            "log.segment.bytes": 256 * 1024 * 1024,
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
            "log.cleaner.io.buffer.size": 2 * _LARGEST_BATCH,
            # A killed broker is taken for alive until its session ends; its successor waits that long.
            "broker.session.timeout.ms": 6000,
            "broker.heartbeat.interval.ms": 1000,
            "num.io.threads": 4,
            "num.network.threads": 2,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "offsets.topic.num.partitions": 8,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
        }
        path = self.data / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        return path

    def _format(self, command: list[str], properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        outcome = subprocess.run(
            [
                command[0],
                _SHORT_LIVED,
                *command[1:],
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster}",  # one word: one id in 64 begins with a hyphen
                f"--config={properties}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if outcome.returncode:
            said = (outcome.stdout + outcome.stderr).strip()
            raise StartFailedError(f"Kafka could not format its storage in {self.data / 'log'}", said)


async def _has_broker(bootstrap: str) -> bool:
    client = AIOKafkaClient(bootstrap_servers=bootstrap, request_timeout_ms=5000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()
