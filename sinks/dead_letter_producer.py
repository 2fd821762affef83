"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from aiokafka.errors import (
    InvalidRequiredAcksError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)

from clients.kafka.publisher import WITHIN_S, Message, Publisher, PublishError
from clients.retry import GivenUp, retrying
from infra.liveness import Unit
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import DEAD_LETTERS, Topic
from sinks.errors import LetterRefusedError
from sinks.metrics import SinkMetrics
from sinks.refused import fitted

_LARGEST: Final = int(DEAD_LETTERS.config["max.message.bytes"])
_AT_ONCE: Final = 500
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_LENGTHS: Final = ((1024 * 1024, 64 * 1024), (1024, 1024))
"""How long a key or a value may be, and how much of a longer one is kept; where Kafka refuses that, less."""
_TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_HOPELESS: Final = (
    InvalidRequiredAcksError,
    InvalidTimestampError,
    InvalidTopicError,
    PolicyViolationError,
    UnsupportedForMessageFormatError,
    UnsupportedVersionError,
)
"""What Kafka says again, however often it is asked."""
_LEAVE_WITHIN_S: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


class Unsent(Exception):  # noqa: N818 - not an error: the sink is stopping
    """The letters are no longer to be sent: whoever reads their records next sends them."""


class DeadLetterProducer:
    """The producer of dead letters, which keep what fits of their records. Connects when it has one."""

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
        """Returns when Kafka has acknowledged all of them; repeats what fails, if it can succeed.

        Of long keys and values only the beginning is sent. Raises Unsent, and LetterRefusedError.
        `unit` is whose letters they are: while they can't be sent, it waits.
        """
        unit = unit or Unit(self._topic)
        left = iter(letters)
        while letters and (some := await unit.compute(_some, left)):
            await self._deliver(some, wanted, unit)

    async def _deliver(
        self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool], unit: Unit
    ) -> None:
        for most, kept in _LENGTHS:
            cut = await unit.compute(_cut, letters, most, kept)
            too_large = await self._sent(cut, wanted, unit)
            if not too_large:
                return
            letters = [letters[at] for at in too_large]
            _LOG.warning("%s: %d dead letters are too large for Kafka", self._topic, len(letters))
        raise LetterRefusedError(self._topic, "it takes no record of a few KiB")

    async def _sent(
        self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool], unit: Unit
    ) -> Sequence[int]:
        """Sends them, except those that are too large; which that are."""
        left = list(range(len(letters)))
        too_large: list[int] = []

        async def attempt() -> None:
            nonlocal left
            outcomes = await self._outcomes([letters[at] for at in left], unit)
            unsent, failures = [], []
            for at, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, _TOO_LARGE):
                    too_large.append(at)
                elif isinstance(outcome, KafkaError):
                    unsent.append(at)
                    failures.append(outcome)
                else:
                    letter = letters[at]
                    self._metrics.dead_letters.labels(letter["topic"], letter["reason"]).inc()
            left = unsent
            if failures:
                raise next((each for each in failures if isinstance(each, _HOPELESS)), failures[0])

        def failed(error: Exception, number: int, wait: float) -> None:
            self._metrics.letter_retries.inc(len(left))
            _LOG.warning("%s: %s; attempt %d in %.1f s", self._topic, error, number, wait)

        def outage(error: Exception) -> AbstractContextManager[None]:
            return unit.waiting(f"Kafka, to take dead letters: {error}")

        try:
            await retrying(attempt, passes=_passes, failed=failed, wanted=wanted, outage=outage)
        except GivenUp:
            raise Unsent from None
        except _HOPELESS as error:
            raise LetterRefusedError(self._topic, f"{type(error).__name__}: {error}") from error
        return too_large

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


def _passes(error: Exception) -> bool:
    return isinstance(error, KafkaError) and not isinstance(error, _HOPELESS)


def _some(letters: Iterator[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """As many as are sent at once."""
    gathered: list[Mapping[str, Any]] = []
    size = 0
    for letter in letters:
        gathered.append(letter)
        size += len(letter["key"] or b"") + len(letter["value"] or b"")
        if len(gathered) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            break
    return gathered


def _cut(letters: Sequence[Mapping[str, Any]], most: int, kept: int) -> Sequence[Mapping[str, Any]]:
    return [fitted(letter, most, kept) for letter in letters]
