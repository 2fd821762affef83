"""Sends dead letters to `chat.dead-letters`, and waits until Kafka has them."""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import DEAD_LETTERS, Topic
from sinks import backoff
from sinks.metrics import SinkMetrics

_LARGEST: Final = int(DEAD_LETTERS.config["max.message.bytes"])
_LOG: Final = logging.getLogger(__name__)


class Unsent(Exception):  # noqa: N818 - not an error: the sink is stopping
    """The letters are no longer to be sent: whoever reads their records next sends them."""


class DeadLetterBox:
    """The producer of dead letters. Records are kept whole."""

    def __init__(self, bootstrap: str, metrics: SinkMetrics, topic: Topic = DEAD_LETTERS) -> None:
        self._topic = topic.name
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            max_request_size=_LARGEST,
            compression_type="gzip",
        )
        self._codec = Codec(schema(DEAD_LETTERS.record))
        self._metrics = metrics
        self._chance = random.Random()  # noqa: S311 - spreads load, guards nothing

    async def start(self) -> None:
        await self._producer.start()

    async def stop(self) -> None:
        await self._producer.stop()

    async def send(self, letters: Sequence[Mapping[str, Any]], wanted: Callable[[], bool]) -> None:
        """Returns when Kafka has acknowledged all of them; repeats what fails. Raises Unsent."""
        for letter in letters:
            value = self._codec.encode(letter)
            attempt = 0
            while True:
                if not wanted():
                    raise Unsent
                try:
                    await self._producer.send_and_wait(self._topic, value, key=str(letter["topic"]).encode())
                    break
                except KafkaError as error:
                    pause = backoff.delay(attempt, self._chance)
                    attempt += 1
                    self._metrics.letter_retries.inc()
                    _LOG.warning("%s: %s; attempt %d in %.1f s", self._topic, error, attempt + 1, pause)
                    await asyncio.sleep(pause)
            self._metrics.dead_letters.labels(letter["topic"], letter["reason"]).inc()
