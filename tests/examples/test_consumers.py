"""The examples that subscribe to chat.alerts, as people run them: processes that know nothing of the product
but its schemas."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.codec import Codec
from schemas.contract import HISTORY, history, schema
from tests.streams.notifications.examples import alert_record

EXAMPLES = Path(__file__).parents[2] / "examples"


def python() -> list[str]:
    return [sys.executable, str(EXAMPLES / "alerts_consumer.py")]


def node() -> list[str]:
    command = shutil.which("node")
    if command is None or not (EXAMPLES / "node_modules").is_dir():
        pytest.skip("no Node.js, or the example's packages aren't installed (make install)")
    return [command, str(EXAMPLES / "alerts-consumer.mjs")]


async def fill(bootstrap: str, topic: str, values: list[bytes]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


@pytest.mark.parametrize("command", [python, node])
def test_alerts_are_printed_once_whatever_else_lies_there(
    command: Callable[[], list[str]], kafka: str, topic_prefix: str
) -> None:
    run = command()
    codec = Codec(schema("Alert"))
    fired = alert_record("al_ä", labels=["team=a=b"], group={"model": "o3"}, value=None)
    resolved = alert_record("al_ä", 2, "resolved", step=0.8)
    topic = f"{topic_prefix}-alerts"
    values = [codec.encode(fired), codec.encode(fired), b"\xc3\x01nonsense", codec.encode(resolved)]
    asyncio.run(fill(kafka, topic, values))

    options = ["--bootstrap", kafka, "--topic", topic, "--schemas", str(HISTORY / "Alert")]
    told = subprocess.run(
        [*run, *options, "--from-beginning", "--count", "2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    alerts: list[dict[str, Any]] = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(each["alert_id"], each["transition"], each["state"]) for each in alerts] == [
        ("al_ä", 1, "firing"),
        ("al_ä", 2, "resolved"),
    ]
    assert (alerts[0]["labels"], alerts[0]["group"]) == ({"team": "a=b"}, {"model": "o3"})
    assert (alerts[0]["value"], alerts[0]["threshold"], alerts[1]["step"]) == (None, 5000.0, 0.8)
    assert alerts[0]["changed_at"].startswith("2023-11-14T22:13:20")
    assert set(alerts[0]) == set(history("Alert")[-1].fields)
    assert "offset 2: not an alert" in told.stderr


def test_the_example_in_python_imports_nothing_of_the_product() -> None:
    text = (EXAMPLES / "alerts_consumer.py").read_text("utf-8")

    imported = {
        line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))
    }

    ours = {"api", "chatgauge", "cli", "clients", "infra", "schemas", "sinks", "streams", "traffic"}
    assert not imported & ours
    assert {"aiokafka", "fastavro"} <= imported


def test_the_lock_of_the_example_in_node_names_no_registry() -> None:
    lock = (EXAMPLES / "package-lock.json").read_text("utf-8")

    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == 2
