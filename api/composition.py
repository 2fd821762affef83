"""The application of a process: its services, from settings, and what runs beside it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from api.access.first import first_key_in_time
from api.alerting.backtesting import Backtester
from api.alerting.follower import AlertFollower
from api.alerting.notifications import KafkaNotificationPublisher
from api.alerting.opened import OpenAlerts
from api.app import create_app
from api.definitions.definitions import FOLLOWED
from api.health.following import Reading, declare_waits
from api.health.probe import Probe
from api.health.progress import Progress
from api.history.store import History
from api.live.live import Live
from api.live.reader import Reader
from api.live.state import Limits, LiveState
from api.metrics import ApiMetrics
from api.services import Connections, Options, assemble
from api.times import Clock, system_clock
from infra.liveness import Part
from infra.settings import (
    AccessSettings,
    ApiSettings,
    ClickHouseSettings,
    DeliverySettings,
    KafkaSettings,
    LocalSettings,
    NotificationSettings,
    WindowSettings,
)
from schemas.topics import ACCESS, ALERTS
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic
from streams.deliveries.addresses import AllowList
from streams.deliveries.errors import AllowListError
from streams.endpoints.secrets import open_vault

_STOPPED_WITHIN_S: Final = 20.0
"""How long it may take to stop."""
Work = Coroutine[Any, Any, None]
Begin = Callable[[], Work]


def build(
    api: ApiSettings,
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    windows: WindowSettings,
    *,
    limits: Limits | None = None,
    clock: Clock = system_clock,
    part: Part | None = None,
) -> FastAPI:
    """The application with everything that it works on, which begins and ends with it."""
    part = part or Part("api")
    metrics = ApiMetrics()
    process = _Process(kafka.bootstrap, clickhouse, windows, limits or Limits(), clock)
    services = assemble(process.connections, _options(api, windows), metrics, part, clock)
    first_key = services.options.admin_key is None

    @contextlib.asynccontextmanager
    async def background() -> AsyncIterator[None]:
        once: dict[str, Begin] = {"recall of old alerts": services.alerts.recall}
        if first_key:
            once["showing the first key"] = process.show_first_key
        async with process.running(part, once):
            yield

    return create_app(services, metrics, background=background, hosts=(api.host, *api.hosts))


class _Process:
    """What reads and writes Kafka and ClickHouse, for as long as the application runs."""

    def __init__(
        self,
        bootstrap: str,
        clickhouse: ClickHouseSettings,
        windows: WindowSettings,
        limits: Limits,
        clock: Clock,
    ) -> None:
        live = Live(LiveState(limits))
        reader, progress = Reader(bootstrap, live, clock, limits), Progress()
        self._clock = clock
        self._topics = {topic.name: DefinitionTopic(bootstrap, topic) for topic in FOLLOWED}
        self._definitions = DefinitionPublisher(bootstrap)
        self._notifications = KafkaNotificationPublisher(bootstrap)
        self.connections = Connections(
            live=live,
            reader=reader,
            progress=progress,
            probe=Probe(bootstrap, progress, live, reader, clock),
            topics=self._topics,
            definitions=self._definitions,
            notifications=self._notifications,
            alerts=AlertFollower(bootstrap, OpenAlerts()),
            history=History(clickhouse),
            backtester=Backtester(clickhouse, windows, NotificationSettings()),
            client=httpx.AsyncClient(trust_env=False),
        )

    @contextlib.asynccontextmanager
    async def running(self, part: Part, once: Mapping[str, Begin]) -> AsyncIterator[None]:
        """Read and follow meanwhile, and do what is to be done `once`."""
        made = self.connections
        async with made.live, made.history, made.client, contextlib.AsyncExitStack() as stack:
            part.attend()
            for topic in self._topics.values():
                await stack.enter_async_context(topic)
                part.need(topic.task, topic.task.get_name())
            stack.push_async_callback(self._definitions.stop)
            stack.push_async_callback(self._notifications.stop)
            begun = {name: begin() for name, begin in once.items()}
            await stack.enter_async_context(_running(part, self._reading(part), begun))
            try:
                yield
            finally:
                part.stopping(_STOPPED_WITHIN_S)

    def _reading(self, part: Part) -> dict[str, Work]:
        reader, probe, alerts = self.connections.reader, self.connections.probe, self.connections.alerts
        readings: dict[str, Reading] = {
            "live state": reader,
            "progress of the groups": probe,
            ALERTS.name: alerts,
        }
        return {
            "reading of windows": reader.run(),
            "probe of the groups": probe.run(),
            f"following {ALERTS.name}": alerts.run(),
            "liveness": declare_waits(part, {**readings, **self._topics}),
        }

    async def show_first_key(self) -> None:
        """Prints the admin key if this is the first start. Not to the log: it is for whoever is looking."""
        key = await first_key_in_time(self._topics[ACCESS.name], self._definitions, self._clock)
        if key is not None:
            sys.stderr.write(
                f"\n  The admin key, shown this once: {key}\n"
                "  Changing rules, endpoints and silences takes it.\n\n"
            )
            sys.stderr.flush()


def _options(api: ApiSettings, windows: WindowSettings) -> Options:
    access = AccessSettings()
    return Options(
        open_vault=lambda: open_vault(_secret(access.secret_key), LocalSettings().data, create=True),
        allowed=_allowed(DeliverySettings().allow),
        admin_key=_secret(access.admin_key),
        public_url=NotificationSettings().public_url,
        zone=windows.timezone,
        parts=api.parts,
    )


def _secret(given: SecretStr | None) -> str | None:
    return None if given is None else given.get_secret_value()


def _allowed(entries: Sequence[str]) -> AllowList:
    try:
        return AllowList.of(entries)
    except AllowListError as error:
        raise SystemExit(f"CHATGAUGE_DELIVERY_ALLOW: {error}") from None


@contextlib.asynccontextmanager
async def _running(part: Part, running: Mapping[str, Work], once: Mapping[str, Work]) -> AsyncIterator[None]:
    """Runs coroutines in the background, by name. One that fails after all takes the process with it, as
    does one of `running` that returns."""
    tasks = []
    for name, coroutine in {**running, **once}.items():
        task = asyncio.create_task(coroutine, name=name)
        part.need(task, name, may_return=name in once)
        tasks.append(task)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
