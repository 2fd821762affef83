"""What the drill sends to Kafka, and what it reads there."""

import asyncio
import json
import random
import secrets
import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from streams.deliveries.notification import Notification
from streams.endpoints.endpoint import Endpoint, Secret
from streams.endpoints.secrets import Vault

_NOTIFICATION: Final = Codec(schema("Notification"))
_ATTEMPT: Final = Codec(schema("DeliveryAttempt"))
_REPEATED: Final = 0.02
"""Which share of the notifications is told twice, as by a notifier that was killed."""


def new_secret() -> str:
    """What signs an endpoint's webhooks."""
    return "whsec_" + b64encode(secrets.token_bytes(24)).decode()


async def set_up(
    bootstrap: str, vault: Vault, endpoints: Iterable[tuple[str, str, str]], timeout_s: float
) -> None:
    """Define the endpoints (id, URL, secret)."""
    publisher = DefinitionPublisher(bootstrap)
    now = datetime.now(UTC)
    for id_, url, secret in endpoints:
        sealed = Secret(value=vault.encrypt(secret, id_), created_at=now)
        endpoint = Endpoint(id=id_, channel="webhook", url=url, secrets=[sealed], timeout=timeout_s)
        at = time.time_ns() // 1000
        await publisher.publish(
            topics.ENDPOINTS, Definition(id_, 1, False, at, "the drill", endpoint.document())
        )
    await publisher.stop()


def notification(number: int, endpoint_id: str) -> Notification:
    """The `number`-th."""
    now = time.time_ns() // 1000
    stamp = datetime.fromtimestamp(now / 1e6, UTC).isoformat()
    body = json.dumps(
        {"type": "alert.firing", "timestamp": stamp, "data": {"number": number, "x": "x" * 300}}
    )
    return Notification(f"nt_{number:08d}", endpoint_id, "alert.firing", now, body)


async def publish(bootstrap: str, notifications: Sequence[Notification], drawn: random.Random) -> None:
    """Send them, and some of them twice."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await send(producer, notifications, drawn)


async def send(
    producer: AIOKafkaProducer, notifications: Sequence[Notification], drawn: random.Random
) -> None:
    """The same, over a producer that is there."""
    repeats = [each for each in notifications if drawn.random() < _REPEATED]
    sent = [
        await producer.send(
            topics.NOTIFICATIONS.name, _NOTIFICATION.encode(each.record()), key=each.endpoint_id.encode()
        )
        for each in [*notifications, *repeats]
    ]
    await asyncio.gather(*sent)


async def attempts(bootstrap: str, partitions: int) -> list[dict[str, Any]]:
    """The whole log, as it is by now."""
    places = [TopicPartition(topics.DELIVERIES.name, partition) for partition in range(partitions)]
    found = []
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                batch = await consumer.getmany(place, timeout_ms=500)
                found += [_ATTEMPT.decode(record.value) for record in batch.get(place, [])]
    return found
