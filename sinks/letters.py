"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka.errors import KafkaError

from clients import backoff
from clients.kafka.publisher import Message, Publisher, PublishError
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import DEAD_LETTERS, Topic
from sinks.metrics import SinkMetrics

_LARGEST: Final = int(DEAD_LETTERS.config["max.message.bytes"])
_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_LEAVE_WITHIN_S: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


class Unsent(Exception):  # noqa: N818 - not an error: the sink is stopping
    """The letters are no longer to be sent: whoever reads their records next sends them."""


class DeadLetterBox:
    """The producer of dead letters, which keep their records whole. Connects when there is one to send."""

    def __init__(self, bootstrap: str, metrics: SinkMetrics, topic: Topic = DEAD_LETTERS) -> None:
        self._topic = topic.name
        self._publisher = Publisher(
            bootstrap, enable_idempotence=True, max_request_size=_LARGEST, compression_type="gzip"
        )
        self._codec = Codec(schema(DEAD_LETTERS.record))
        self._metrics = metrics
        self._chance = random.Random()  # noqa: S311 - spreads load, guards nothing

    async def stop(self) -> None:
        """Closes the connections. What is not yet sent is sent by whoever reads its record next."""
        await self._publisher.stop(_LEAVE_WITHIN_S)

    async def send(self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool]) -> None:
        """Returns when Kafka has acknowledged all of them; repeats what fails. Raises Unsent."""
        gathered: list[Mapping[str, Any]] = []
        size = 0
        for letter in letters:
            gathered.append(letter)
            size += len(letter["value"] or b"")
            if len(gathered) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
                await self._deliver(gathered, wanted)
                gathered, size = [], 0
        await self._deliver(gathered, wanted)

    async def _deliver(self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool]) -> None:
        attempt = 0
        while letters:
            if not wanted():
                raise Unsent
            outcomes = await self._outcomes(letters)
            unsent = []
            for letter, outcome in zip(letters, outcomes, strict=True):
                if isinstance(outcome, KafkaError):
                    unsent.append(letter)
                else:
                    self._metrics.dead_letters.labels(letter["topic"], letter["reason"]).inc()
            if unsent:
                pause = backoff.delay(attempt, self._chance)
                attempt += 1
                self._metrics.letter_retries.inc(len(unsent))
                error = next(outcome for outcome in outcomes if isinstance(outcome, KafkaError))
                _LOG.warning("%s: %s; attempt %d in %.1f s", self._topic, error, attempt + 1, pause)
                await asyncio.sleep(pause)
            letters = unsent

    async def _outcomes(self, letters: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """For each letter what Kafka has acknowledged, or the KafkaError."""
        messages = [
            Message(self._topic, self._codec.encode(letter), str(letter["topic"]).encode())
            for letter in letters
        ]
        try:
            return await self._publisher.publish(messages)
        except PublishError as error:
            return error.outcomes
        except KafkaError as error:
            return [error] * len(letters)
