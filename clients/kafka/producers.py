"""A Kafka producer that connects when there is something to send."""

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer


class OnDemandProducer:
    """Of one process; `settings` are aiokafka's. Acknowledged is what all in-sync replicas have."""

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        self._settings = {"bootstrap_servers": bootstrap, "acks": "all", **settings}
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def started(self) -> AIOKafkaProducer:
        """The producer, connected. Raises KafkaError when Kafka doesn't answer; it may be asked again."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(**self._settings)
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def stop(self) -> None:
        """Send what waits, and leave."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()
