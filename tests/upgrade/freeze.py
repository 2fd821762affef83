"""Keeps a data directory as this version leaves it, for later ones: `python -m tests.upgrade.freeze 0001`.

Two minutes of traffic with late, repeated and unreadable events, spans, samples and a rule that fires; an
endpoint that doesn't answer, so that a delivery is open; a silence; and events that nobody has read yet.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.kafka import LocalKafka
from infra.ports import free_port
from schemas.topics import TOPICS
from tests.end_to_end.log import Record
from tests.end_to_end.stack import Stack, output_of, wait_until
from tests.upgrade.state import SETTINGS, alerting, definitions, figures, pack

_KEY = {"Authorization": f"Bearer {SETTINGS['CHATGAUGE_ACCESS_ADMIN_KEY']}"}
_RULE = {
    "id": "frozen-traffic",
    "name": "There is traffic",
    "kind": "threshold",
    "metric": "requests",
    "aggregation": "rate",
    "operator": ">",
    "threshold": "5/s",
    "window": "1m",
    "severity": "error",
}
_UNREAD = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.freeze", description=__doc__)
    parser.add_argument("name", help="what the state is called: states/<name>.tar.xz")
    parser.add_argument("--seconds", type=int, default=75)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        stack = Stack(Path(directory), SETTINGS)
        begin = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(days=2)
        left = Path(directory) / "left"
        try:
            stack.start()
            asyncio.run(_keep_for_ever(stack.env["CHATGAUGE_KAFKA_BOOTSTRAP"]))
            _fill(stack, given.seconds)
            end = datetime.now(UTC)
            merged = stack.query("SELECT path FROM system.parts WHERE NOT active")
            stack.stop()
            for (part,) in merged:  # ClickHouse would remove them in a few minutes
                shutil.rmtree(part, ignore_errors=True)
            _leave_unread(stack)
            shutil.copytree(stack.data, left, symlinks=True)
            stack.start()
            answers = _answers(stack, begin, end)
        finally:
            stack.stop()
            stack.api.close()
        file = pack(left, answers, given.name)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def _fill(stack: Stack, seconds: int) -> None:
    _define(stack)
    # Of the hours before, at once.
    stack.run("simulate", "--speed", "max", "--count", 300, "--rate", 0.1, "--users", 40, "--seed", 11)
    live = ("--rate", 12, "--duration", seconds, "--late", "2%", "--corrupt", 7, "--users", 40, "--seed", 12)
    stack.run("simulate", *live)
    _send_again(stack)
    wait_until("an alert has fired", lambda: bool(stack.query("SELECT 1 FROM alert_transitions")))
    wait_until("a delivery has failed", lambda: bool(stack.query("SELECT 1 FROM delivery_log")))
    stack.wait_until_settled()


def _answers(stack: Stack, begin: datetime, end: datetime) -> dict[str, Any]:
    """What this version says once it has read what was left unread, and all panes have closed."""
    begun = time.time()
    wait_until("all panes have closed", lambda: time.time() > begun + 90)
    stack.wait_until_settled()
    until = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return {
        "begin": begin.isoformat(),
        "end": end.isoformat(),
        "until": until.isoformat(),
        "figures": figures(stack, begin, until),
        "alerting": alerting(stack, end),
        "definitions": definitions(stack),
    }


_BUDGET = {
    "id": "frozen-budget",
    "name": "Tokens of a space",
    "kind": "budget",
    "metric": "tokens",
    "grouping": "space",
    "severity": "warning",
    "limit": "20k tokens",
    "period": "month",
}


def _define(stack: Stack) -> None:
    endpoint = {
        "id": "frozen-webhook",
        "channel": "webhook",
        "url": f"http://127.0.0.1:{free_port()}/hook",
        "subscriptions": [{"types": ["alert.*"]}],
    }
    silence = {
        "matchers": ["service=search-chat"],
        "duration": "300d",
        "author": "Ada",
        "reason": "kept over the upgrade",
    }
    for path, body in (("rules", _RULE), ("rules", _BUDGET), ("endpoints", endpoint), ("silences", silence)):
        answer = stack.api.post(f"/api/{path}", json=body, headers=_KEY)
        assert answer.is_success, answer.text


def _send_again(stack: Stack) -> None:
    """Some events a second time: repeats."""
    again = stack.log.records("chat.requests")[-200:]
    asyncio.run(_send(stack.env["CHATGAUGE_KAFKA_BOOTSTRAP"], again))


async def _send(bootstrap: str, records: list[Record]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for one in records:
            await producer.send("chat.requests", one.value, one.key, one.partition)


async def _keep_for_ever(bootstrap: str) -> None:
    """Kafka deletes nothing, however late the state is started again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        for topic in TOPICS:
            if topic.config.get("cleanup.policy") == "delete":
                config = {**topic.config, "retention.ms": "-1"}
                await admin.alter_configs(
                    [ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=config)]
                )
    finally:
        await admin.close()


def _leave_unread(stack: Stack) -> None:
    """Events that come while no part runs."""
    kafka = LocalKafka(stack.data / "kafka", port=free_port())
    kafka.start()
    try:
        env = {**os.environ, **stack.env, "CHATGAUGE_KAFKA_BOOTSTRAP": kafka.bootstrap}
        output_of(env, ("simulate", "--speed", "max", "--count", _UNREAD, "--rate", 20, "--seed", 13))
    finally:
        kafka.stop()


if __name__ == "__main__":
    main()
