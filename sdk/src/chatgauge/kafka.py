"""Delivery to Kafka: aiokafka on a loop of its own, which runs in the sending thread.

The service's event loop is never touched, and none is needed. Events go in whole batches, one
acknowledgement each. Only documented calls of aiokafka are used.
"""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from aiokafka.partitioner import murmur2

from chatgauge.config import KafkaConnection
from chatgauge.transport import Delivery, Message

_REQUEST_TIMEOUT_MS = 10_000
_DELIVERY_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 1.0
_METADATA_TIMEOUT_S = 2.0
_MISSING_FOR_S = 2.0
_BATCH_BYTES = 256 * 1024

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)

# What a parent had open when this process was forked. Collecting it would close the parent's epoll
# registrations, which fork shares: so it is kept, and never used.
_inherited: list[object] = []


class _PrivateLoop(asyncio.SelectorEventLoop):
    """A loop that looks hosts up itself.

    The ordinary way uses an executor, and those take no more work once the interpreter has begun to
    shut down: a short script's last events would be lost. Nothing else runs on this loop to be held up.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return socket.getaddrinfo(host, port, **hints)


class _Hearsay(logging.Filter):
    """Keeps what aiokafka logs in the sending thread out of the service's log, and remembers the last of it.

    While Kafka is away it would be many lines a second. The sender says it once, with the reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[int, str] = {}
        for name in ("", ".cluster", ".conn", ".producer.producer", ".producer.sender"):
            logging.getLogger(f"aiokafka{name}").addFilter(self)

    def listen(self) -> None:
        """Forget what was heard in this thread; its lines are ours from now on."""
        self._threads[threading.get_ident()] = ""

    def heard(self) -> str:
        """The last line of this thread."""
        return self._threads.get(threading.get_ident(), "")

    def deafen(self) -> None:
        """This thread is about to end; another may get its number."""
        self._threads.pop(threading.get_ident(), None)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread not in self._threads:
            return True
        if record.levelno >= logging.WARNING:
            self._threads[record.thread] = record.getMessage()
        return False


_hearsay = _Hearsay()


@lru_cache(maxsize=8192)
def _hash(key: bytes) -> int:
    """As Kafka's own clients spread keys, so that all producers agree."""
    return int(murmur2(key)) & 0x7FFFFFFF


class KafkaTransport:
    """Sends to the Kafka cluster at `connection.bootstrap`."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._ssl = _ssl_context(connection)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._producer: Any = None
        self._missing: dict[str, float] = {}

    def deliver(self, messages: Sequence[Message]) -> Delivery:
        _hearsay.listen()
        if self._loop is None:
            self._loop = _PrivateLoop()
        return self._loop.run_until_complete(self._deliver(messages))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._disconnect())
            self._loop.close()
            self._loop = None
        _hearsay.deafen()

    def abandon(self) -> None:
        _inherited.append((self._loop, self._producer))
        self._loop = self._producer = None
        self._missing.clear()

    async def _deliver(self, messages: Sequence[Message]) -> Delivery:
        delivery = Delivery()
        try:
            producer = await self._connected()
        except (KafkaError, OSError, TimeoutError) as error:
            reason = _hearsay.heard() or f"{type(error).__name__}: {error}"
            return Delivery(unsent=list(messages), reason=f"{self._connection.bootstrap}: {reason}")
        spread = await self._spread(producer, messages, delivery)
        work = [self._send(producer, *where, part, delivery) for where, part in spread.items()]
        await asyncio.gather(*work)
        if delivery.unsent and not delivery.sent and spread:
            await self._disconnect()
        return delivery

    async def _connected(self) -> Any:
        if self._producer is None:
            connection = self._connection
            producer = AIOKafkaProducer(
                bootstrap_servers=connection.bootstrap,
                client_id="chatgauge",
                acks="all",
                max_batch_size=_BATCH_BYTES,
                request_timeout_ms=_REQUEST_TIMEOUT_MS,
                security_protocol=connection.security_protocol,
                ssl_context=self._ssl,
                sasl_mechanism=connection.sasl_mechanism,
                sasl_plain_username=connection.username,
                sasl_plain_password=connection.password,
            )
            try:
                await asyncio.wait_for(producer.start(), _DELIVERY_TIMEOUT_S)
            except BaseException:
                await _stop(producer)
                raise
            self._producer = producer
        return self._producer

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer)

    async def _spread(
        self, producer: Any, messages: Sequence[Message], delivery: Delivery
    ) -> dict[tuple[str, int], list[Message]]:
        """The messages by topic and partition; those of a topic that isn't there stay unsent."""
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            by_topic[message.topic].append(message)
        spread: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for topic, part in by_topic.items():
            partitions = await self._partitions(producer, topic, delivery)
            if not partitions:
                delivery.unsent.extend(part)
                continue
            for message in part:
                spread[topic, partitions[_hash(message.key) % len(partitions)]].append(message)
        return spread

    async def _partitions(self, producer: Any, topic: str, delivery: Delivery) -> list[int]:
        reason = f"{self._connection.bootstrap}: topic {topic} is missing: create it with `chatgauge topics`"
        if time.monotonic() < self._missing.get(topic, 0.0):
            delivery.reason = reason
            return []
        try:
            found = await asyncio.wait_for(producer.partitions_for(topic), _METADATA_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError) as error:
            missing = isinstance(error, TimeoutError) and not _hearsay.heard()
            delivery.reason = reason if missing else _hearsay.heard() or f"{topic}: {type(error).__name__}"
            self._missing[topic] = time.monotonic() + _MISSING_FOR_S
            return []
        self._missing.pop(topic, None)
        return sorted(found)

    async def _send(
        self, producer: Any, topic: str, partition: int, messages: list[Message], delivery: Delivery
    ) -> None:
        """Send in order, batch by batch; after a failure the rest waits for the next time."""
        now_ms = time.time_ns() // 1_000_000
        at = 0
        while at < len(messages):
            batch = producer.create_batch()
            end = at
            while end < len(messages) and batch.append(
                key=messages[end].key, value=messages[end].value, timestamp=now_ms
            ):
                end += 1
            if end == at:
                delivery.refused.append(messages[at])
                delivery.reason = f"{topic}: an event exceeds {_BATCH_BYTES} bytes"
                at += 1
                continue
            try:
                acknowledged = await producer.send_batch(batch, topic, partition=partition)
                await asyncio.wait_for(acknowledged, _DELIVERY_TIMEOUT_S)
            except _TOO_LARGE as error:
                if end - at > 1:
                    for message in messages[at:end]:
                        await self._send(producer, topic, partition, [message], delivery)
                else:
                    delivery.refused.append(messages[at])
                    delivery.reason = f"{topic}: {type(error).__name__}"
            except (KafkaError, OSError, TimeoutError) as error:
                delivery.unsent.extend(messages[at:])
                delivery.reason = _hearsay.heard() or f"{topic}: {type(error).__name__}"
                return
            else:
                delivery.sent.extend(messages[at:end])
            at = end


async def _stop(producer: Any) -> None:
    try:
        await asyncio.wait_for(producer.stop(), _CLOSE_TIMEOUT_S)
    except (KafkaError, OSError, TimeoutError):
        # It held nothing that is not in the buffer still.
        await producer.client.close()


def _ssl_context(connection: KafkaConnection) -> ssl.SSLContext | None:
    if not connection.security_protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=connection.ca_file)
