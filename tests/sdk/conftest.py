"""A Kafka with the chat topics, and what has been published there."""

import asyncio
import io
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from aiokafka import AIOKafkaConsumer

from infra.errors import JarsUnavailableError, JavaUnusableError
from infra.kafka import LocalKafka
from infra.ports import free_port

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_FILES = {"chat.requests": "request_event", "chat.spans": "span_event", "chat.samples": "sample"}

Published = Callable[[str, str, str], list[tuple[bytes, dict[str, Any]]]]


@pytest.fixture(scope="session")
def chat_kafka(tmp_path_factory: pytest.TempPathFactory, create_topics: Callable[..., None]) -> Iterator[str]:
    """The bootstrap address of a Kafka with the chat topics, for the tests of the SDK."""
    local = LocalKafka(tmp_path_factory.mktemp("sdk-kafka"), port=free_port())
    try:
        local.start()
    except (JavaUnusableError, JarsUnavailableError) as missing:
        pytest.skip(f"no local Kafka: {missing}")
    try:
        create_topics(local.bootstrap, partitions=3)
        yield local.bootstrap
    finally:
        local.stop()


@pytest.fixture
def service() -> str:
    """The name of a service that no other test uses."""
    return f"service-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def published() -> Published:
    """`published(bootstrap, topic, service)`: keys and records, as a reader with fastavro alone sees them."""

    def read(bootstrap: str, topic: str, service: str) -> list[tuple[bytes, dict[str, Any]]]:
        definition = json.loads((_SCHEMAS / f"{_FILES[topic]}.avsc").read_text())
        schema = fastavro.parse_schema(definition)
        canonical = fastavro.schema.to_parsing_canonical_form(definition)
        fingerprint = bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))
        found = []
        for key, value in asyncio.run(_read(bootstrap, topic)):
            assert value[:2] == b"\xc3\x01"
            assert value[2:10] == fingerprint
            body = io.BytesIO(value[10:])
            record = fastavro.schemaless_reader(body, schema, None)
            assert body.read() == b""
            if record["service"] == service:
                found.append((key, record))
        return found

    return read


async def _read(bootstrap: str, topic: str) -> list[tuple[bytes, bytes]]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        messages = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                messages.extend((message.key, message.value) for message in batch)
        return messages
    finally:
        await consumer.stop()
