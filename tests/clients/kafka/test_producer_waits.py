"""How waits for aiokafka's producer never end: what docs/decisions/producer-waits.md says, shown.

When one of these fails, aiokafka has changed, and the publisher may have less to do.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from types import FrameType
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import MessageBatch

from clients.kafka.link import Link
from tests.clients.kafka.conftest import PATIENCE_S, Broker, requests_under_way, until

REQUEST_TIMEOUT_MS = 500
LONG_S = 4 * REQUEST_TIMEOUT_MS / 1000
"""Any of aiokafka's own bounds has passed by then."""


class TimedOutError(BaseException):
    """As pytest.fail.Exception, which pytest-timeout raises from its signal handler, no Exception."""


@pytest.fixture
async def producer(broker: Broker) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    await producer.start()
    yield producer
    await Link(producer).abandon()


async def _ends(awaited: Awaitable[Any], within_s: float = LONG_S) -> bool:
    task = asyncio.ensure_future(awaited)
    done, _ = await asyncio.wait({task}, timeout=within_s)
    task.cancel()
    return bool(done)


def _waiting(producer: AIOKafkaProducer) -> tuple[int, int, int]:
    """Batches that wait, batches under way, nodes with a request in flight."""
    accumulator = producer._message_accumulator
    return len(accumulator._batches), len(accumulator._pending_batches), len(producer._sender._in_flight)


async def _interrupt(within: Any, awaited: Awaitable[Any]) -> bool:
    """Raise, as a signal's handler does, at the first line of a function; whether the wait then ends."""

    def interrupted(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is within:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGUSR1)

    def handler(*_: object) -> None:
        raise TimedOutError

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    before = signal.signal(signal.SIGUSR1, handler)
    sys.setprofile(interrupted)
    try:
        return await _ends(awaited)
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)


async def test_a_gather_whose_callback_a_signal_interrupts_waits_for_ever(
    broker: Broker, producer: AIOKafkaProducer, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    sent = [await producer.send(topic, b"", partition=0) for _ in range(100)]
    gathered = asyncio.gather(*sent)
    callback = next(each for each, _ in sent[50]._callbacks)

    ended = await _interrupt(callback.__code__, gathered)

    assert not ended
    assert all(each.done() for each in sent)
    assert _waiting(producer) == (0, 0, 0)
    assert all(each.connected() for each in producer.client._conns.values())


async def test_futures_of_a_batch_that_a_signal_interrupts_never_complete(
    broker: Broker, producer: AIOKafkaProducer, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    sent = [await producer.send(topic, b"", partition=0) for _ in range(100)]
    batches = producer._message_accumulator._batches.values()
    (batch,) = [each for waiting in batches for each in waiting]

    def resolved(_: object) -> None:
        """Stands for any line in the loop that resolves the messages' futures."""

    class Offsets(list[Any]):
        def __iter__(self) -> Any:
            yield from list(super().__iter__())[:50]
            resolved(self)
            yield from list(super().__iter__())[50:]

    batch._msg_futures = Offsets(batch._msg_futures)
    assert isinstance(batch, MessageBatch)

    ended = await _interrupt(resolved.__code__, asyncio.wait(sent))

    assert not ended
    assert sum(each.done() for each in sent) == 50
    assert _waiting(producer)[:2] == (0, 0)
    assert all(each.connected() for each in producer.client._conns.values())


async def test_a_sender_that_meets_a_cancelled_request_ends_silently_and_sends_nothing_more(
    broker: Broker, producer: AIOKafkaProducer, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    await producer.send_and_wait(topic, b"", partition=0)
    with broker.stopped():
        await producer.send(topic, b"", partition=0)
        await until(requests_under_way)
        requests_under_way()[0].cancel()
        await asyncio.wait({producer._sender.sender_task}, timeout=LONG_S)
    assert producer._sender.sender_task.cancelled()

    later = await producer.send(topic, b"", partition=1)

    assert not await _ends(later)
    assert not await _ends(producer.flush())


async def test_stopping_an_idempotent_producer_waits_for_ever_while_the_broker_is_stopped(
    broker: Broker, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS, enable_idempotence=True
    )
    await producer.start()
    await producer.send_and_wait(topic, b"", partition=0)
    with broker.stopped():
        future = await producer.send(topic, b"", partition=0)
        assert not await _ends(asyncio.shield(future))
        assert not await _ends(producer.stop())
        await Link(producer).abandon()


async def test_closing_waits_for_ever_for_a_broker_that_does_not_read(
    broker: Broker, topic_prefix: str
) -> None:
    topic = await broker.topic(topic_prefix)
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
        max_request_size=20_000_000,
    )
    await producer.start()
    await producer.send_and_wait(topic, b"", partition=0)
    with broker.stopped():
        await producer.send(topic, bytes(16_000_000), partition=0)
        await until(lambda: any(each._requests for each in producer.client._conns.values()))
        connections = [each._closed_fut for each in producer.client._conns.values()]
        assert not await _ends(producer.client.close())
        await Link(producer).abandon()
    _, open_still = await asyncio.wait(connections, timeout=PATIENCE_S)
    assert not open_still


async def test_a_send_waits_for_ever_when_the_task_that_asks_for_metadata_has_ended(
    broker: Broker, producer: AIOKafkaProducer, topic_prefix: str
) -> None:
    producer.client._sync_task.cancel()

    assert not await _ends(producer.send(await broker.topic(topic_prefix), b""))
