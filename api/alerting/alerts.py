"""Alerts: those that are open, from Kafka, and those of the past, from ClickHouse."""

import logging
from collections.abc import Sequence
from typing import Final

from api.alerting.archive import Archive
from api.alerting.follower import AlertFollower
from api.alerting.held_back import HeldBackNow, PresentSetup
from api.alerting.opened import OpenAlerts, Record
from api.alerting.sql import AlertFilter
from api.errors import ApiError
from api.models.alerts import Alert
from api.times import Clock
from clients.retry import retrying
from schemas.time import DAY, Micros
from schemas.topics import ALERTS
from streams.notifications.transition import FIRING, PENDING

_log = logging.getLogger(__name__)

_REMEMBERED: Final[Micros] = 30 * DAY
"""How far chat.alerts goes back."""
_MOST_RECALLED: Final = 10_000


class Alerts:
    """What is known of alerts: by the follower of `chat.alerts`, and by the archive."""

    def __init__(self, follower: AlertFollower, archive: Archive, setup: PresentSetup, clock: Clock) -> None:
        self.follower = follower
        self.opened: OpenAlerts = follower.opened
        self.archive = archive
        self._setup = setup
        self._clock = clock

    def missing(self) -> list[str]:
        """Why not all that are open are known, in words."""
        if self.follower.failure is not None:
            return [self.follower.failure]
        if self.follower.caught_up:
            return []
        return [f"{ALERTS.name} is still being read from its beginning"]

    def shown(self, records: Sequence[Record]) -> list[Alert]:
        """The alerts of these records, with what holds back their notifications now."""
        holding = HeldBackNow(self._setup(), self.opened, self._clock())
        firing = self.opened.firing
        return [
            Alert.of(record, holding.of(firing.get(record["rule_id"], {}).get(record["alert_id"])))
            for record in records
        ]

    async def recall(self) -> None:
        """Learns once, from ClickHouse, which open alerts are older than Kafka remembers."""
        before = self._clock() - (_REMEMBERED - DAY)
        wanted = AlertFilter(states=(PENDING, FIRING), end=before)
        page = await retrying(
            lambda: self.archive.alerts(wanted, None, _MOST_RECALLED),
            passes=lambda error: isinstance(error, ApiError),
            failed=lambda error, number, wait: _log.info(
                "open alerts of long ago are not known yet: %s; attempt %d in %.1f s", error, number, wait
            ),
        )
        for record in page.rows:
            self.opened.apply(record)
