"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from aiokafka.errors import KafkaError, KafkaTimeoutError

from clients.kafka.publisher import WITHIN_S, Message, Publisher, PublishError
from clients.retry import GivenUp, retrying
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
_SECOND: Final = 2


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
        left = letters

        async def attempt() -> None:
            nonlocal left
            outcomes = await self._outcomes(left, unit)
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
            if number == _SECOND:
                outage.enter_context(unit.waiting(f"Kafka, to take dead letters: {error}"))

        if left:
            try:
                with ExitStack() as outage:
                    await retrying(
                        attempt,
                        passes=lambda error: isinstance(error, KafkaError),
                        failed=failed,
                        wanted=wanted,
                    )
            except GivenUp:
                raise Unsent from None

    async def _outcomes(self, letters: Sequence[Mapping[str, Any]], unit: Unit) -> Sequence[Any]:
        """For each letter what Kafka has acknowledged, or the KafkaError."""
        messages = [
            Message(self._topic, self._codec.encode(letter), str(letter["topic"]).encode())
            for letter in letters
        ]
        try:
            async with unit.bounded(f"the acknowledgement of {self._topic}", 2 * WITHIN_S):
                return await self._publisher.publish(messages)
        except PublishError as error:
            return error.outcomes
        except KafkaError as error:
            return [error] * len(letters)
        except TimeoutError as error:
            return [KafkaTimeoutError(str(error))] * len(letters)
