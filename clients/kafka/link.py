"""One producer of aiokafka: bounded while it lasts, and abandoned when it doesn't get on."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
)
from aiokafka.structs import RecordMetadata

_ABANDON_WITHIN_S: Final = 1.0
_RESCHEDULE_EVERY: Final = 256


class Message(NamedTuple):
    """A record to be published. Without a partition its key chooses one."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


class AcknowledgementTimeoutError(KafkaError):  # type: ignore[misc]
    """Nothing was acknowledged for as long as the wait may last. The messages may or may not be there."""

    retriable = True


class ProducerReplacedError(KafkaError):  # type: ignore[misc]
    """The producer was given up while the message waited. It may or may not be there."""

    retriable = True


class Link:
    """One producer of aiokafka, connected, and what waits for it."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._waiting: set[asyncio.Future[RecordMetadata]] = set()
        self._sending: set[asyncio.Timeout] = set()
        self._given_up = False
        self._on_closed = producer.client._on_connection_closed
        producer.client._on_connection_closed = self._closed

    @classmethod
    async def connected(cls, producer: AIOKafkaProducer) -> "Link":
        """Connects a producer. Raises KafkaError when Kafka doesn't answer."""
        link = cls(producer)
        try:
            await link._producer.start()
        except BaseException:
            await link.abandon()
            raise
        return link

    @property
    def broken(self) -> bool:
        """Whether a task that it can't do without has ended: what is sent then waits for ever."""
        tasks = (self._producer._sender.sender_task, self._producer.client._sync_task)
        return any(task is None or task.done() for task in tasks)

    def spent(self, outcomes: Iterable[object]) -> bool:
        """Whether, after these outcomes, nothing more can be published with it."""
        refused = [each for each in outcomes if isinstance(each, KafkaError)]
        if self.broken or any(isinstance(each, AcknowledgementTimeoutError) for each in refused):
            return True
        # The sequence numbers of a batch that has failed are used up: the broker takes none that follow.
        idempotent = self._producer._txn_manager is not None
        return idempotent and not all(isinstance(each, MessageSizeTooLargeError) for each in refused)

    async def publish(self, messages: Sequence[Message], within_s: float) -> list[Any]:
        """What became of each message: its metadata, or its KafkaError."""
        sent: list[asyncio.Future[RecordMetadata] | KafkaError] = []
        try:
            await self._send(messages, sent, within_s)
            waiting = {each for each in sent if isinstance(each, asyncio.Future)}
            if pending := await waited(waiting, within_s):
                late = AcknowledgementTimeoutError(f"no acknowledgement in {within_s:g} s")
                return [late if each in pending else self._outcome(each) for each in sent]
            return [self._outcome(each) for each in sent]
        finally:
            for each in sent:
                if isinstance(each, asyncio.Future):
                    self._waiting.discard(each)
                    each.cancel()

    def _outcome(self, each: "asyncio.Future[RecordMetadata] | KafkaError") -> Any:
        if isinstance(each, asyncio.Future):
            if each.cancelled():
                return ProducerReplacedError("the producer was given up")
            error = each.exception()
            if error is None:
                return each.result()
            if not isinstance(error, KafkaError):
                raise error
        else:
            error = each
        if self.broken and type(error) is KafkaError:  # "unexpected": its sender has failed, not the message
            return ProducerReplacedError(str(error))
        return error

    async def _send(
        self,
        messages: Sequence[Message],
        sent: list[asyncio.Future[RecordMetadata] | KafkaError],
        within_s: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(within_s)
        try:
            async with limit:
                self._sending.add(limit)
                for number, (topic, value, key, partition, headers) in enumerate(messages):
                    if number % _RESCHEDULE_EVERY == 0:
                        limit.reschedule(loop.time() + within_s)
                    try:
                        future = await self._producer.send(
                            topic, value, key=key, partition=partition, headers=list(headers)
                        )
                    except MessageSizeTooLargeError as error:
                        sent.append(error)
                    else:
                        self._waiting.add(future)
                        sent.append(future)
        except (TimeoutError, KafkaTimeoutError, ProducerClosed):
            failure: KafkaError = (
                ProducerReplacedError("the producer was given up")
                if self._given_up
                else AcknowledgementTimeoutError(f"not taken in {within_s:g} s")
            )
        except KafkaError as error:
            failure = error
        else:
            return
        finally:
            self._sending.discard(limit)
        sent.extend([failure] * (len(messages) - len(sent)))

    async def stop(self, within_s: float) -> None:
        """Close when everything has been acknowledged; abandon what has not in time."""
        stopping = asyncio.create_task(self._producer.stop())
        stopping.add_done_callback(_noted)
        try:
            await asyncio.wait({stopping}, timeout=within_s)
        finally:
            if not stopping.done() or stopping.cancelled() or stopping.exception():
                await self.abandon()

    async def abandon(self) -> None:
        """Close at once. What waits ends with ProducerReplacedError, and is not sent any more."""
        self._given_up = True
        for limit in self._sending:
            limit.reschedule(0)  # has passed
        try:
            await self._end_tasks()
            for connection in self._producer.client._conns.values():
                connection.close()
                _abort(connection)
            stopping = asyncio.create_task(self._producer.stop())  # the rest, which nothing holds up now
            stopping.add_done_callback(_noted)
            await asyncio.wait({stopping}, timeout=_ABANDON_WITHIN_S)
            await self._end_tasks()
        finally:
            for future in self._waiting:
                future.cancel()
            self._waiting.clear()

    def _closed(self, connection: Any, reason: Any) -> None:
        """A connection that is closed sends nothing more: it would come after what was sent again."""
        _abort(connection)
        self._on_closed(connection, reason)

    async def _end_tasks(self) -> None:
        tasks = _tasks(self._producer)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ABANDON_WITHIN_S)


async def waited(pending: set[asyncio.Future[Any]], within_s: float) -> set[asyncio.Future[Any]]:
    """Wait until all have ended, or none has for `within_s` seconds; those that have not."""
    while pending:
        done, pending = await asyncio.wait(pending, timeout=within_s)
        if not done:
            break
    return pending


def _abort(connection: Any) -> None:
    """To close a connection alone would wait until the peer has read what was to be sent."""
    transport = connection._protocol and connection._protocol._transport
    if transport is not None:
        transport.abort()


def _noted(task: "asyncio.Task[Any]") -> None:
    """What it raises is of no more interest."""
    if not task.cancelled():
        task.exception()


def _tasks(producer: AIOKafkaProducer) -> set["asyncio.Task[Any]"]:
    """The tasks that aiokafka runs for a producer. It keeps some of them to itself."""
    parts = (producer, producer.client, producer._sender, producer._message_accumulator)
    found = set()
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        owner = None if frame is None else frame.f_locals.get("self")
        if any(owner is part for part in parts):
            found.add(task)
    return found
