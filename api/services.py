"""What routes work on, and how it is put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

import httpx

from api.access.first import kept_key
from api.access.guard import Guard
from api.alerting.alerts import Alerts
from api.alerting.archive import Archive
from api.alerting.backtesting import Backtester
from api.alerting.follower import AlertFollower
from api.alerting.held_back import PresentSetup
from api.alerting.notifications import NotificationPublisher
from api.alerting.redriving import Redriver
from api.definitions.definitions import Definitions
from api.definitions.endpoint_editor import DraftingOnDemand
from api.definitions.store import DefinitionReader, DefinitionWriter
from api.events.viewer import Viewer
from api.health.monitored import Monitored
from api.health.probe import Probe
from api.health.progress import Progress
from api.health.readiness import Health
from api.history.store import History
from api.live.live import Live
from api.live.reader import Reader
from api.metrics import ApiMetrics
from api.scrape import Scrape
from api.times import Clock
from infra.liveness import Part
from schemas.topics import ACCESS
from streams.deliveries.addresses import AllowList
from streams.endpoints.secrets import Vault


@dataclass(frozen=True, kw_only=True)
class Connections:
    """What reads and writes Kafka, and asks ClickHouse and the other parts."""

    live: Live
    reader: Reader
    progress: Progress
    probe: Probe
    topics: Mapping[str, DefinitionReader]
    """The topics of FOLLOWED, by name."""
    definitions: DefinitionWriter
    notifications: NotificationPublisher
    alerts: AlertFollower
    history: History
    backtester: Backtester
    client: httpx.AsyncClient


@dataclass(frozen=True, kw_only=True)
class Options:
    """What whoever runs the API has chosen."""

    open_vault: Callable[[], Vault]
    """Raises SecretError without a key to encrypt secrets with."""
    allowed: AllowList = field(default_factory=AllowList)
    admin_key: str | None = None
    """Comes before the key that Kafka keeps."""
    public_url: str = ""
    """Where people reach the API, for links; empty when nobody has said."""
    zone: tzinfo = UTC
    """Days begin at its midnight."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Where the metrics of the other parts are, by the part's name."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything that routes work on. `api.dependencies` hands each of them to the routes that name it."""

    clock: Clock
    options: Options
    live: Live
    history: History
    guard: Guard
    definitions: Definitions
    drafting: DraftingOnDemand
    alerts: Alerts
    viewer: Viewer
    backtester: Backtester
    notifications: NotificationPublisher
    redriver: Redriver
    health: Health
    scrape: Scrape
    part: Part


def assemble(
    connections: Connections, options: Options, metrics: ApiMetrics, part: Part, clock: Clock
) -> Services:
    """The services over these connections. Nothing is begun."""
    topics, history = connections.topics, connections.history
    definitions = Definitions(topics, connections.definitions, clock)
    guard = Guard(lambda: kept_key(topics[ACCESS.name].items), clock, override=options.admin_key)
    alerts = Alerts(connections.alerts, Archive(history), PresentSetup(topics, options.zone), clock)
    monitored = Monitored(
        live=connections.live,
        reader=connections.reader,
        progress=connections.progress,
        probe=connections.probe,
        definitions=definitions,
        alerts=alerts,
        guard=guard,
    )
    return Services(
        clock=clock,
        options=options,
        live=connections.live,
        history=history,
        guard=guard,
        definitions=definitions,
        drafting=DraftingOnDemand(options.open_vault, options.allowed),
        alerts=alerts,
        viewer=Viewer(history, alerts, clock),
        backtester=connections.backtester,
        notifications=connections.notifications,
        redriver=Redriver(connections.notifications),
        health=Health(monitored, history, clock),
        scrape=Scrape(metrics, options.parts, connections.client, monitored, clock),
        part=part,
    )
