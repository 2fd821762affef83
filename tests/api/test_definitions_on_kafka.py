"""What people set up, on a real Kafka: written once, read at once, obeyed by every process."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from api.alerting.notifications import KafkaNotificationPublisher
from api.definitions.definitions import FOLLOWED
from api.models.endpoints import ENDPOINT_EXAMPLE
from api.models.rules import RULE_EXAMPLE
from api.models.silences import SILENCE_EXAMPLE
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import ALERTS, NOTIFICATIONS
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic
from tests.api.around import ADMIN, Around, alert
from tests.api.process import PATIENCE, publish, running, wait_for

_KEY = re.compile(r"cg_[\w-]{43}")
Asking = Callable[[], Awaitable[httpx.Response]]


@pytest.fixture(scope="module")
def kafka_with_topics(fresh_kafka: str, create_topics: Callable[..., None]) -> str:
    create_topics(fresh_kafka)
    return fresh_kafka


@asynccontextmanager
async def on_kafka(kafka: str, clickhouse: ClickHouseSettings) -> AsyncIterator[httpx.AsyncClient]:
    """The application as a process has it, and a client that holds the key."""
    publisher, notifications = DefinitionPublisher(kafka), KafkaNotificationPublisher(kafka)
    topics = {topic.name: DefinitionTopic(kafka, topic) for topic in FOLLOWED}
    async with AsyncExitStack() as stack:
        for topic in topics.values():
            await stack.enter_async_context(topic)
        stack.push_async_callback(publisher.stop)
        stack.push_async_callback(notifications.stop)
        around = Around(
            clickhouse, readers=topics, writer=publisher, notifications=notifications, kafka=kafka
        )
        await stack.enter_async_context(around)
        following = asyncio.create_task(around.follower.run())
        http = await stack.enter_async_context(around.http())
        http.headers.update(ADMIN)
        # A broker that has just begun may take long to lead its partitions.
        for address in ("/api/rules", "/api/endpoints", "/api/silences"):
            await until(lambda address=address: http.get(address), is_there)  # type: ignore[misc]
        yield http
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def until(ask: Asking, right: Callable[[httpx.Response], bool]) -> httpx.Response:
    """The first right answer."""
    deadline = time.monotonic() + PATIENCE
    while not right(answer := await ask()):
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.01)
    return answer


def is_there(answer: httpx.Response) -> bool:
    return answer.status_code == 200


async def test_what_was_written_is_read_at_once_and_soon_by_other_processes(
    kafka_with_topics: str, away: ClickHouseSettings
) -> None:
    async with on_kafka(kafka_with_topics, away) as one, on_kafka(kafka_with_topics, away) as other:
        made = await one.post("/api/rules", json=RULE_EXAMPLE)
        assert made.status_code == 201, made.text
        read = await one.get("/api/rules/error-rate")
        assert (read.json(), read.headers["etag"]) == (made.json(), '"1"')
        seen = await until(lambda: other.get("/api/rules/error-rate"), is_there)
        assert seen.json() == made.json()
        for revision in range(1, 11):
            again = {"If-Match": f'"{revision}"'}
            written = await other.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers=again)
            read = await other.get("/api/rules/error-rate")
            assert (written.status_code, read.json()) == (200, written.json())
        await until(lambda: one.get("/api/rules/error-rate"), lambda answer: answer.json()["revision"] == 11)
        late = await one.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers={"If-Match": '"10"'})
        assert late.status_code == 412
        assert (await one.delete("/api/rules/error-rate")).status_code == 204
        assert (await one.get("/api/rules/error-rate")).status_code == 404
        await until(lambda: other.get("/api/rules/error-rate"), lambda answer: not is_there(answer))


async def test_of_writers_at_the_same_time_one_wins_and_the_others_are_told(
    kafka_with_topics: str, away: ClickHouseSettings
) -> None:
    async with on_kafka(kafka_with_topics, away) as http:
        rule = RULE_EXAMPLE | {"id": "contended"}
        await http.post("/api/rules", json=rule)
        answers = await asyncio.gather(
            *(http.put("/api/rules/contended", json=rule, headers={"If-Match": '"1"'}) for _ in range(10))
        )
        assert sorted(answer.status_code for answer in answers) == [200] + [412] * 9


async def test_a_test_lies_on_the_endpoints_partition(
    kafka_with_topics: str, away: ClickHouseSettings
) -> None:
    async with on_kafka(kafka_with_topics, away) as http:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        sent = [(await http.post("/api/endpoints/oncall/test")).json()["notification_id"] for _ in range(3)]
    found = await records(kafka_with_topics, NOTIFICATIONS.name)
    assert [each["notification_id"] for _, _, each in found] == sent
    assert {key for _, key, _ in found} == {b"oncall"}
    assert len({partition for partition, _, _ in found}) == 1


async def test_alerts_are_shown_as_they_are_raised_and_an_acknowledgement_holds_everywhere(
    kafka_with_topics: str, away: ClickHouseSettings
) -> None:
    codec = Codec(schema(ALERTS.record))
    async with on_kafka(kafka_with_topics, away) as one, on_kafka(kafka_with_topics, away) as other:
        values = [codec.encode(each) for each in (alert(), alert(), alert(alert_id="al_2"))]
        sending = [(ALERTS.name, 0, b"al", value) for value in [b"not an alert", *values]]
        await asyncio.to_thread(publish, kafka_with_topics, sending)
        for http in (one, other):
            shown = await until(
                lambda http=http: http.get("/api/alerts"),  # type: ignore[misc]
                lambda answer: len(answer.json()["alerts"]) == 2,
            )
            assert shown.json()["complete"] is True
        await one.post("/api/alerts/al_2/acknowledge", json={"author": "Ada"})

        def is_held(answer: httpx.Response) -> bool:
            held = {each["alert_id"]: each["held_back"] or {} for each in answer.json()["alerts"]}
            return held["al_2"].get("what") == "acknowledged"

        await until(lambda: other.get("/api/alerts"), is_held)


def test_the_admin_key_is_shown_once_and_renewed_from_the_command_line(
    kafka_with_topics: str, away: ClickHouseSettings, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "api.log"
    address = f"http://127.0.0.1:{port}"
    with (
        running(kafka_with_topics, away, port, log) as process,
        httpx.Client(base_url=address, trust_env=False, timeout=30) as client,
    ):
        first = with_key(wait_for(lambda: _KEY.search(log.read_text()), process, log)[0])
        made = client.post("/api/silences", json=SILENCE_EXAMPLE, headers=first)
        assert made.status_code == 201, made.text
    with (
        running(kafka_with_topics, away, port, log) as process,
        httpx.Client(base_url=address, trust_env=False, timeout=30) as client,
    ):
        kept = wait_for(lambda: client.get("/api/silences"), process, log)
        assert made.json()["id"] in [each["id"] for each in kept.json()["silences"]]

        def is_taken() -> bool:
            answer = client.post("/api/silences", json=SILENCE_EXAMPLE, headers=first)
            assert answer.status_code in (201, 503), "503: the key has not been read yet"
            return answer.status_code == 201

        wait_for(is_taken, process, log)
        renewed = admin_key(kafka_with_topics, "--renew")
        assert (renewed.returncode, _KEY.fullmatch(renewed.stdout.strip()) is not None) == (0, True)
        second = with_key(renewed.stdout.strip())
        asked = {"json": SILENCE_EXAMPLE, "headers": second}
        wait_for(lambda: client.post("/api/silences", **asked).status_code == 201, process, log)
        assert client.post("/api/silences", json=SILENCE_EXAMPLE, headers=first).status_code == 403
    assert _KEY.search(log.read_text()) is None
    told = admin_key(kafka_with_topics).stdout
    assert "by chatgauge admin-key" in told
    assert _KEY.search(told) is None


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def admin_key(kafka: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "admin-key", *options],
        env={"PATH": "", "CHATGAUGE_KAFKA_BOOTSTRAP": kafka},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def records(kafka: str, topic: str) -> list[tuple[int, bytes | None, dict[str, Any]]]:
    """Everything on a topic: partition, key, and value."""
    codec = Codec(schema("Notification"))
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        places = consumer.assignment()
        ends = await consumer.end_offsets(places)
        found = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=250)).values():
                found += [(each.partition, each.key, codec.decode(each.value)) for each in batch]
    finally:
        await consumer.stop()
    return found
