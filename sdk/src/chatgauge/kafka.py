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
from aiokafka.errors import MessageSizeTooLargeError, RecordListTooLargeError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2

from chatgauge.config import KafkaConnection
from chatgauge.transport import Delivery, EncodedMessage

_REQUEST_TIMEOUT_MS = 10_000
_DELIVERY_TIMEOUT_S = 30.0
_CLOSE_TIMEOUT_S = 1.0
_FIRST_LOOK_S = 2.0
_NEXT_LOOK_S = 0.3
# Brokers take batches of 1 MiB unless told otherwise. One batch is one round trip, so it is a large one.
_BATCH_BYTES = 900_000

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
        self._lookups: dict[str, asyncio.Task[Any]] = {}
        self._overdue: set[str] = set()
        self._in_doubt = False

    def deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        _hearsay.listen()
        try:
            if self._loop is None:
                self._loop = _PrivateLoop()
            return self._loop.run_until_complete(self._deliver(messages))
        except (OSError, asyncio.CancelledError) as error:  # no file descriptors left; or aiokafka gave up
            return Delivery(unsent=list(messages), reason=self._reason(error))

    def close(self) -> None:
        if self._loop is not None:
            self._loop.run_until_complete(self._disconnect())
            self._loop.close()
            self._loop = None
        _hearsay.deafen()

    def abandon(self) -> None:
        _inherited.append((self._loop, self._producer))
        self._loop = self._producer = None
        self._lookups = {}
        self._overdue.clear()

    async def _deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        delivery = Delivery()
        self._in_doubt = False
        try:
            producer = await self._connected()
        except Exception as error:  # nobody there, no entrance, or something that isn't Kafka
            return Delivery(unsent=list(messages), reason=self._reason(error))
        by_topic: dict[str, list[EncodedMessage]] = defaultdict(list)
        for message in messages:
            by_topic[message.topic].append(message)
        work = [self._send_topic(producer, *topic, delivery) for topic in by_topic.items()]
        await asyncio.gather(*work)
        if self._in_doubt and not delivery.sent:
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
        self._lookups.clear()
        if producer is not None:
            await _stop(producer)

    async def _send_topic(
        self, producer: Any, topic: str, messages: list[EncodedMessage], delivery: Delivery
    ) -> None:
        """Send to each partition of the topic; all stay unsent while it can't be found."""
        partitions = await self._partitions(producer, topic, delivery)
        if not partitions:
            delivery.unsent.extend(messages)
            return
        spread: dict[int, list[EncodedMessage]] = defaultdict(list)
        for message in messages:
            spread[partitions[_hash(message.key) % len(partitions)]].append(message)
        work = [self._send(producer, topic, partition, part, delivery) for partition, part in spread.items()]
        await asyncio.gather(*work)

    async def _partitions(self, producer: Any, topic: str, delivery: Delivery) -> list[int] | None:
        """The topic's partitions. Looking for them goes on, when it takes long, while others are served."""
        lookup = self._lookups.get(topic)
        if lookup is None:
            lookup = self._lookups[topic] = asyncio.ensure_future(producer.partitions_for(topic))
            lookup.add_done_callback(_taken_note_of)
        await asyncio.wait({lookup}, timeout=_NEXT_LOOK_S if topic in self._overdue else _FIRST_LOOK_S)
        if not lookup.done():
            self._overdue.add(topic)
            delivery.reason = self._not_found(topic)
            return None
        del self._lookups[topic]
        try:
            found = sorted(lookup.result())
        except (Exception, asyncio.CancelledError) as error:
            self._in_doubt = True
            unknown = isinstance(error, UnknownTopicOrPartitionError)
            delivery.reason = self._not_found(topic) if unknown else self._reason(error)
            return None
        self._overdue.discard(topic)
        return found

    def _not_found(self, topic: str) -> str:
        heard = f" ({_hearsay.heard()})" if _hearsay.heard() else ""
        return (
            f"{self._connection.bootstrap}: topic {topic} is missing (create it with `chatgauge topics`),"
            f" or Kafka is slow to tell{heard}"
        )

    def _reason(self, error: BaseException) -> str:
        """What aiokafka logged tells more than what it raises: a refused password, an unknown host."""
        heard = _hearsay.heard().rstrip(": ")
        return f"{self._connection.bootstrap}: {type(error).__name__}: {heard or error}".rstrip(": ")

    async def _send(
        self, producer: Any, topic: str, partition: int, messages: list[EncodedMessage], delivery: Delivery
    ) -> None:
        """Send in order, batch by batch; after a failure the rest waits for the next time.

        A batch that is too large for the broker is halved until it isn't, or is one event.
        """
        now_ms = time.time_ns() // 1_000_000
        at, most = 0, len(messages)
        while at < len(messages):
            batch = producer.create_batch()
            end, limit = at, min(len(messages), at + most)
            while end < limit and batch.append(
                key=messages[end].key, value=messages[end].value, timestamp=now_ms
            ):
                end += 1
            try:
                if end == at:
                    raise MessageSizeTooLargeError
                sending = _acknowledged(producer, batch, topic, partition)
                await asyncio.wait_for(sending, _DELIVERY_TIMEOUT_S)
            except _TOO_LARGE:
                if end - at > 1:
                    most = (end - at) // 2
                    continue
                delivery.refused.append(messages[at])
                delivery.reason = (
                    f"{topic}: an event of {len(messages[at].value)} bytes is more than Kafka takes"
                )
                end = at + 1
            except Exception as error:  # whatever it is, these events are not there yet
                self._in_doubt = True
                delivery.unsent.extend(messages[at:])
                delivery.reason = self._reason(error)
                return
            else:
                delivery.sent.extend(messages[at:end])
            at, most = end, 2 * most


async def _acknowledged(producer: Any, batch: Any, topic: str, partition: int) -> None:
    """To send may take as long as to be answered: aiokafka looks the topic up again."""
    await (await producer.send_batch(batch, topic, partition=partition))


def _taken_note_of(lookup: "asyncio.Task[Any]") -> None:
    """A lookup that nobody waits for any more is no cause for a warning."""
    if not lookup.cancelled():
        lookup.exception()


async def _stop(producer: Any) -> None:
    """End the producer and all its tasks. It holds nothing that is not in the buffer still."""
    for end in (producer.stop, producer.client.close):
        closing = asyncio.ensure_future(end())
        closing.add_done_callback(_taken_note_of)
        # Not `wait_for`, which waits for what it cancels: aiokafka may swallow that, and then waits on.
        await asyncio.wait({closing}, timeout=_CLOSE_TIMEOUT_S)
        if closing.done() and not closing.cancelled() and closing.exception() is None:
            break
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_CLOSE_TIMEOUT_S)


def _ssl_context(connection: KafkaConnection) -> ssl.SSLContext | None:
    if not connection.security_protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=connection.ca_file)
