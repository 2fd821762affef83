"""A notification, as the agents and the channels hold it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.time import Micros, micros_of


@dataclass(frozen=True, slots=True)
class Notification:
    """Something to be delivered to an endpoint; the fields are those of the Avro record."""

    notification_id: str
    endpoint_id: str
    type: str
    created_at: Micros
    body: str
    """JSON: type, timestamp, data."""
    alerts: tuple[str, ...] = ()
    redriven: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Notification":
        """From a decoded record."""
        return cls(
            record["notification_id"],
            record["endpoint_id"],
            record["type"],
            micros_of(record["created_at"]),
            record["body"],
            tuple(record["alerts"]),
            record["redriven"],
        )

    def record(self) -> dict[str, Any]:
        """As an Avro record."""
        return {
            "notification_id": self.notification_id,
            "endpoint_id": self.endpoint_id,
            "type": self.type,
            "created_at": self.created_at,
            "body": self.body,
            "alerts": list(self.alerts),
            "redriven": self.redriven,
        }
