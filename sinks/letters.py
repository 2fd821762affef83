"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka.errors import KafkaError

from clients.kafka.publisher import Message, Publisher, PublishError
from clients.retry import GivenUp, retrying
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
        left = letters

        async def attempt() -> None:
            nonlocal left
            outcomes = await self._outcomes(left)
            unsent, failures = [], []
            for letter, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, KafkaError):
                    unsent.append(letter)
                    failures.append(outcome)
                else:
                    self._metrics.dead_letters.labels(letter["topic"], letter["reason"]).inc()
            left = unsent
            if failures:
                raise failures[0]

        def failed(error: Exception, number: int, wait: float) -> None:
            self._metrics.letter_retries.inc(len(left))
            _LOG.warning("%s: %s; attempt %d in %.1f s", self._topic, error, number, wait)

        if left:
            try:
                await retrying(
                    attempt,
                    passes=lambda error: isinstance(error, KafkaError),
                    failed=failed,
                    wanted=wanted,
                )
            except GivenUp:
                raise Unsent from None

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
