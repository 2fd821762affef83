"""From Kafka into the open alerts: `chat.alerts`, from its beginning."""

import logging
from typing import Final

from api.alerting.opened import OpenAlerts
from clients.kafka.follower import Follower, Records
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.topics import ALERTS

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 500
"""Records that are decoded before others get their turn."""


class AlertFollower(Follower):
    """Every API process holds all that is open."""

    def __init__(self, bootstrap: str, alerts: OpenAlerts) -> None:
        super().__init__(bootstrap, [ALERTS.name], self._read, most_records=_AT_ONCE)
        self.opened = alerts
        self._codec = Codec(schema(ALERTS.record))
        self.refused = 0
        """Records that could not be read."""

    async def _read(self, fetched: Records) -> None:
        for records in fetched.values():
            for record in records:
                self._apply(record.value)

    def _apply(self, value: bytes | None) -> None:
        try:
            if value is None:
                raise ValueError("a record without a value")
            self.opened.apply(self._codec.decode(value))
        except (SchemaError, ValueError) as error:
            self.refused += 1
            _log.error("chat.alerts: a record could not be read: %s", error)
