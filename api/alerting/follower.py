"""From Kafka into the open alerts: `chat.alerts`, from its beginning."""

import asyncio
import contextlib
import logging
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from api.alerting.opened import OpenAlerts
from clients.kafka.partitions import partitions
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.topics import ALERTS

_log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_AT_ONCE: Final = 500
"""Records that are decoded before others get their turn."""


class AlertFollower:
    """Follows the topic without a consumer group: every API process holds all that is open.

    Kafka may come and go; what was read stays. `failure` says why it is not reading, None while it is.
    """

    def __init__(self, bootstrap: str, alerts: OpenAlerts) -> None:
        self._bootstrap = bootstrap
        self._alerts = alerts
        self._codec = Codec(schema(ALERTS.record))
        self._positions: dict[TopicPartition, int] = {}
        self.failure: str | None = "chat.alerts has not been read yet"
        self.caught_up = False
        """What was there at the start has been read."""
        self.refused = 0
        """Records that could not be read."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError) as error:
                self.failure = f"Kafka at {self._bootstrap} does not answer ({type(error).__name__}: {error})"
                _log.warning("%s", self.failure)
            await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            places = await self._places()
            consumer.assign(places)
            begins = await consumer.beginning_offsets(places)
            target = await consumer.end_offsets(places)
            for place in places:
                consumer.seek(place, max(self._positions.get(place, 0), begins[place]))
            while True:
                for batch in (await consumer.getmany(timeout_ms=250, max_records=_AT_ONCE)).values():
                    for record in batch:
                        self._take(record.value)
                self.failure = None
                for place in places:
                    self._positions[place] = await consumer.position(place)
                if not self.caught_up:
                    self.caught_up = all(self._positions[place] >= target[place] for place in places)

    async def _places(self) -> list[TopicPartition]:
        async with contextlib.AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            stack.push_async_callback(admin.close)
            await admin.start()
            while not (places := await partitions(admin, [ALERTS.name])):
                self.failure = f"awaiting the topic {ALERTS.name} (chatgauge topics creates it)"
                await asyncio.sleep(_RETRY_S)
        return places

    def _take(self, value: bytes | None) -> None:
        try:
            if value is None:
                raise ValueError("a record without a value")
            self._alerts.take(self._codec.decode(value))
        except (SchemaError, ValueError) as error:
            self.refused += 1
            _log.error("chat.alerts: a record could not be read: %s", error)
