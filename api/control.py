"""What rules, endpoints, silences, alerts and deliveries rest on, put together."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, tzinfo
from typing import Any, Final

from fastapi import APIRouter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from api.access.first import first_key_in_time, kept_key
from api.access.guard import Guard
from api.alerting.archive import Archive
from api.alerting.backtesting import Backtester
from api.alerting.follower import AlertFollower
from api.alerting.held_back import PresentSetup
from api.alerting.notifications import NotificationPublisher, Redriver
from api.alerting.opened import OpenAlerts
from api.alerting.sql import AlertFilter
from api.clickhouse import ClickHouse
from api.definitions.endpoints import Drafting
from api.definitions.store import DefinitionReader, DefinitionStore, DefinitionWriter, Kind
from api.errors import ApiError, UnavailableError
from api.events.viewer import Viewer
from api.models.backtest import BacktestRequest
from api.models.endpoints import DisablingRequest, EndpointRequest, RedriveRequest, RotationRequest
from api.models.silences import AcknowledgementRequest, SilenceRequest
from api.routes import alerts, deliveries, endpoints, events, rules, silences
from api.times import Clock
from clients.retry import retrying
from schemas.time import DAY, Micros
from schemas.topics import ACCESS, ALERTS, ENDPOINTS, RULES, SILENCES, Topic
from streams.alerts.rule import RULE
from streams.deliveries.addresses import AllowList
from streams.deliveries.errors import SecretError
from streams.deliveries.secrets import Vault
from streams.notifications.transition import FIRING, PENDING

FOLLOWED: Final = (RULES, ENDPOINTS, SILENCES, ACCESS)
"""The topics whose definitions are followed."""
BODIES: Final[dict[str, Any]] = {
    rules.RULE_SCHEMA: RULE,
    endpoints.ENDPOINT_SCHEMA: EndpointRequest,
    **{
        model.__name__: model
        for model in (
            *(SilenceRequest, AcknowledgementRequest),
            *(RotationRequest, DisablingRequest, RedriveRequest),
            BacktestRequest,
        )
    },
}
"""What bodies must be like, by the names under which routes refer to them."""
_log = logging.getLogger(__name__)

_REMEMBERED: Final[Micros] = 30 * DAY
"""How far chat.alerts goes back."""
_MOST_RECALLED: Final = 10_000
_RULE: Final = Kind(
    "rule",
    "/api/rules",
    "write an entry with its id into a YAML file of the folder CHATGAUGE_ALERTS_RULES; the fields that it "
    "names are changed (`enabled: false` switches the rule off).",
)
_ENDPOINT: Final = Kind("endpoint", "/api/endpoints", "change the file.")
_SILENCE: Final = Kind("silence", "/api/silences", "change the file.")


class Control:
    """Everything behind the routes that take or show what people set up, and alerts and deliveries.

    `followed` reads the topics of FOLLOWED, by name; `writer` writes to them; `outlet` takes notifications.
    `open_vault` raises SecretError without a key to encrypt secrets with.
    """

    def __init__(
        self,
        *,
        followed: Mapping[str, DefinitionReader],
        writer: DefinitionWriter,
        outlet: NotificationPublisher,
        follower: AlertFollower,
        alerts: OpenAlerts,
        clickhouse: ClickHouse,
        backtester: Backtester,
        open_vault: Callable[[], Vault],
        clock: Clock,
        allowed: AllowList | None = None,
        admin_key: str | None = None,
        public_url: str = "",
        zone: tzinfo = UTC,
    ) -> None:
        self._followed = followed
        self._writer = writer
        self._outlet = outlet
        self._follower = follower
        self._alerts = alerts
        self._open_vault = open_vault
        self._vault: Vault | None = None
        self._allowed = allowed or AllowList()
        self._backtester = backtester
        self._clock = clock
        self._public_url = public_url
        self._archive = Archive(clickhouse)
        self._viewer = Viewer(clickhouse, self._archive, alerts, follower, clock)
        self._setup = PresentSetup(followed, zone)
        self.guard = Guard(lambda: kept_key(followed[ACCESS.name].items), clock, override=admin_key)

    def routers(self) -> list[APIRouter]:
        """The routes."""
        clock, archive = self._clock, self._archive
        of_endpoints = self._shelf(ENDPOINTS, _ENDPOINT)
        of_silences = self._shelf(SILENCES, _SILENCE)
        redriver = Redriver(self._outlet)
        return [
            alerts.router(self.guard, self._alerts, self._follower, of_silences, self._setup, archive, clock),
            rules.router(self.guard, self._shelf(RULES, _RULE), of_endpoints, self._backtester, clock),
            silences.router(self.guard, of_silences, self._alerts, archive, clock),
            endpoints.router(
                self.guard,
                of_endpoints,
                self._drafting,
                archive,
                self._outlet,
                redriver,
                clock,
                self._public_url,
            ),
            deliveries.router(self.guard, of_endpoints, archive, redriver),
            events.router(self._viewer),
        ]

    def failures(self) -> list[str]:
        """What of alerts and definitions is not being read, in words."""
        found = [followed.failure for followed in self._followed.values()] + [self._follower.failure]
        if self._follower.failure is None and not self._follower.caught_up:
            found.append(f"{ALERTS.name} is still being read from its beginning")
        return [failure for failure in found if failure is not None]

    def metrics(self) -> Iterable[Metric]:
        """Its figures, as they are now."""
        alerts = GaugeMetricFamily("chatgauge_api_open_alerts", "Alerts that are open.", labels=("state",))
        states = Counter(record["state"] for record in self._alerts.open())
        for state in (PENDING, FIRING):
            alerts.add_metric((state,), states[state])
        yield alerts
        refused = CounterMetricFamily(
            "chatgauge_api_records_refused",
            "Records of alerts and definitions that could not be read.",
            labels=("topic",),
        )
        refused.add_metric((ALERTS.name,), self._follower.refused)
        definitions = GaugeMetricFamily(
            "chatgauge_api_definitions", "Rules, endpoints, silences and keys there are.", labels=("topic",)
        )
        for topic, followed in self._followed.items():
            refused.add_metric((topic,), followed.unreadable)
            definitions.add_metric((topic,), len(followed.items))
        yield refused
        yield definitions
        yield CounterMetricFamily(
            "chatgauge_api_wrong_keys", "Wrong admin keys that were tried.", value=self.guard.refused
        )

    async def recall(self) -> None:
        """Learns once, from ClickHouse, which open alerts are older than Kafka remembers."""
        before = self._clock() - (_REMEMBERED - DAY)
        wanted = AlertFilter(states=(PENDING, FIRING), end=before)
        page = await retrying(
            lambda: self._archive.alerts(wanted, None, _MOST_RECALLED),
            passes=lambda error: isinstance(error, ApiError),
            failed=lambda error, number, wait: _log.info(
                "open alerts of long ago are not known yet: %s; attempt %d in %.1f s", error, number, wait
            ),
        )
        for record in page.rows:
            self._alerts.take(record)

    async def first_key(self) -> str | None:
        """The admin key, when it had to be made: see `api.access.first`."""
        return await first_key_in_time(self._followed[ACCESS.name], self._writer, self._clock)

    def _shelf(self, topic: Topic, kind: Kind) -> DefinitionStore:
        return DefinitionStore(topic, kind, self._followed[topic.name], self._writer, self._clock)

    def _drafting(self) -> Drafting:
        if self._vault is None:
            try:
                self._vault = self._open_vault()
            except SecretError as error:
                raise UnavailableError(f"Secrets can't be encrypted: {error}.", where="vault") from error
        return Drafting(self._vault, self._allowed)
