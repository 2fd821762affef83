"""Single parts of the product as processes, on a Kafka and a ClickHouse that are there."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.settings import ClickHouseSettings, RetentionSettings
from sinks import tables
from tests.end_to_end.stack import COMMAND, output_of
from tests.streams.broker import process


@dataclass(frozen=True)
class Parts:
    """What runs, and its settings."""

    directory: Path
    env: Mapping[str, str]

    @classmethod
    def of(
        cls, directory: Path, bootstrap: str, partitions: int, database: ClickHouseSettings, **settings: str
    ) -> "Parts":
        """On this Kafka, whose topics are there, and this database, which gets its tables."""
        tables.prepare(database, RetentionSettings())
        env = {
            **os.environ,
            "CHATGAUGE_KAFKA_BOOTSTRAP": bootstrap,
            "CHATGAUGE_KAFKA_PARTITIONS": str(partitions),
            "CHATGAUGE_CLICKHOUSE_PORT": str(database.port),
            "CHATGAUGE_CLICKHOUSE_PASSWORD": database.password.get_secret_value(),
            "CHATGAUGE_CLICKHOUSE_DATABASE": database.database,
            "CHATGAUGE_SINK_METRICS_PORT": "0",
            "CHATGAUGE_DATA": str(directory),
            "CHATGAUGE_ALERTS_DEFAULT_RULES": "false",
            "CHATGAUGE_DELIVERY_ALLOW": '["127.0.0.1"]',
            **settings,
        }
        return cls(directory, env)

    @contextmanager
    def worker(self, kind: str) -> Iterator["subprocess.Popen[str]"]:
        """A worker, meanwhile."""
        command = [str(COMMAND), "worker", kind, "--metrics-port", "0"]
        with process(command, self.env, self.directory / f"{kind}.log") as one:
            yield one

    @contextmanager
    def sink(self) -> Iterator["subprocess.Popen[str]"]:
        """The sinks, meanwhile."""
        with process([str(COMMAND), "sink"], self.env, self.directory / "sink.log") as one:
            yield one

    def run(self, *arguments: object) -> str:
        """A `chatgauge` command, to its end; its output."""
        return output_of(self.env, arguments, within_s=120)
