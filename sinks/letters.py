"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from aiokafka.errors import KafkaError, KafkaTimeoutError

from clients import backoff
from clients.kafka.producers import OnDemandProducer
from infra.liveness import Unit
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import DEAD_LETTERS, Topic
from sinks.metrics import SinkMetrics

_LARGEST: Final = int(DEAD_LETTERS.config["max.message.bytes"])
_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_LEAVE_WITHIN_S: Final = 1.0
_ACKNOWLEDGED_WITHIN_S: Final = 60.0
_LOG: Final = logging.getLogger(__name__)


class Unsent(Exception):  # noqa: N818 - not an error: the sink is stopping
    """The letters are no longer to be sent: whoever reads their records next sends them."""


class DeadLetterBox:
    """The producer of dead letters, which keep their records whole. Connects when there is one to send."""

    def __init__(self, bootstrap: str, metrics: SinkMetrics, topic: Topic = DEAD_LETTERS) -> None:
        self._topic = topic.name
        self._producer = OnDemandProducer(
            bootstrap, enable_idempotence=True, max_request_size=_LARGEST, compression_type="gzip"
        )
        self._codec = Codec(schema(DEAD_LETTERS.record))
        self._metrics = metrics
        self._chance = random.Random()  # noqa: S311 - spreads load, guards nothing

    async def stop(self) -> None:
        """Closes the connections. What is not yet sent is sent by whoever reads its record next."""
        try:
            async with asyncio.timeout(_LEAVE_WITHIN_S):
                await self._producer.stop()
        except TimeoutError:
            _LOG.warning("%s: Kafka does not answer", self._topic)

    async def send(
        self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool], unit: Unit | None = None
    ) -> None:
        """Returns when Kafka has acknowledged all of them; repeats what fails. Raises Unsent.

        `unit` is whose letters they are: while they can't be sent, it waits.
        """
        unit = unit or Unit(self._topic)
        gathered: list[Mapping[str, Any]] = []
        size = 0
        for letter in letters:
            gathered.append(letter)
            size += len(letter["value"] or b"")
            if len(gathered) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
                await self._deliver(gathered, wanted, unit)
                gathered, size = [], 0
        await self._deliver(gathered, wanted, unit)

    async def _deliver(
        self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool], unit: Unit
    ) -> None:
        attempt = 0
        with ExitStack() as outage:
            while letters:
                if not wanted():
                    raise Unsent
                outcomes = await self._sent(letters, unit)
                unsent = []
                for letter, outcome in zip(letters, outcomes, strict=True):
                    if isinstance(outcome, KafkaError):
                        unsent.append(letter)
                    elif isinstance(outcome, BaseException):
                        raise outcome
                    else:
                        self._metrics.dead_letters.labels(letter["topic"], letter["reason"]).inc()
                if unsent:
                    pause = backoff.delay(attempt, self._chance)
                    self._metrics.letter_retries.inc(len(unsent))
                    error = next(outcome for outcome in outcomes if isinstance(outcome, KafkaError))
                    if not attempt:
                        outage.enter_context(unit.waiting(f"Kafka, to take dead letters: {error}"))
                    attempt += 1
                    _LOG.warning("%s: %s; attempt %d in %.1f s", self._topic, error, attempt + 1, pause)
                    await asyncio.sleep(pause)
                letters = unsent

    async def _sent(self, letters: Sequence[Mapping[str, Any]], unit: Unit) -> Sequence[object]:
        try:
            async with unit.bounded(f"the acknowledgement of {self._topic}", _ACKNOWLEDGED_WITHIN_S):
                return await asyncio.gather(*map(self._send, letters), return_exceptions=True)
        except TimeoutError as error:
            return [KafkaTimeoutError(str(error))] * len(letters)

    async def _send(self, letter: Mapping[str, Any]) -> None:
        producer = await self._producer.started()
        key = str(letter["topic"]).encode()
        await producer.send_and_wait(self._topic, self._codec.encode(letter), key=key)
