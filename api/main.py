"""The API as a process."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Final

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics
from pydantic import SecretStr

from api.alerting.backtesting import Backtester
from api.alerting.follower import AlertFollower
from api.alerting.notifications import KafkaNotificationPublisher
from api.alerting.opened import OpenAlerts
from api.app import create_app
from api.control import FOLLOWED, Control
from api.health.following import Reading, tell
from api.health.probe import Probe
from api.health.progress import Progress
from api.health.readiness import Health
from api.history.store import History
from api.live.live import Live
from api.live.reader import Reader
from api.live.state import Limits, LiveState
from api.metrics import ApiMetrics, Scrape
from api.times import Clock, system_clock
from infra import logs
from infra.liveness import Part, attended, reason_of
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
from schemas.topics import ALERTS
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic
from streams.deliveries.addresses import AllowList
from streams.deliveries.errors import AllowListError
from streams.deliveries.secrets import open_vault

_GRACE: Final = 5
"""Seconds that answers in flight get when the process is told to stop."""
_STOPPED_WITHIN_S: Final = 20.0
"""How long all the rest may take then."""
Work = Coroutine[Any, Any, None]


def run(
    api: ApiSettings | None = None,
    kafka: KafkaSettings | None = None,
    clickhouse: ClickHouseSettings | None = None,
    windows: WindowSettings | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then return. Settings default to the environment's.

    Raises SystemExit when the port can't be had. When a task that it needs ends, the process does, with the
    reason as the last line of the log.
    """
    api = api or ApiSettings()
    logs.begin()
    # aiokafka warns of every lost connection, many times; what matters is in /health/ready.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    with attended("api", None) as part:  # it serves its health and metrics itself
        _serve(
            api,
            kafka or KafkaSettings(),
            clickhouse or ClickHouseSettings(),
            windows or WindowSettings(),
            part,
        )


def _serve(
    api: ApiSettings,
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    windows: WindowSettings,
    part: Part,
) -> None:
    app = build(api, kafka, clickhouse, windows, part=part)
    config = uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    # uvicorn raises the signal again once it has stopped; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with _listening(api.host, api.port) as listener:
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except BaseException as error:
            part.end(reason_of(error), error)
        if not part.is_stopping:
            part.end("the server ended, and nobody had told it to")


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket, before anything else is begun."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SystemExit(
            f"The API can't listen on {host}:{port} ({error.strerror}): is the port taken? "
            "Set CHATGAUGE_API_PORT."
        ) from None
    return listener


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
    """The application with everything that it works on."""
    limits = limits or Limits()
    part = part or Part("api")
    live = Live(LiveState(limits))
    history = History(clickhouse)
    metrics = ApiMetrics()
    progress = Progress()
    reader = Reader(kafka.bootstrap, live, clock, limits)
    probe = Probe(kafka.bootstrap, progress, live, reader, clock)
    client = httpx.AsyncClient(trust_env=False)
    access, notifications = AccessSettings(), NotificationSettings()
    topics = {topic.name: DefinitionTopic(kafka.bootstrap, topic) for topic in FOLLOWED}
    publisher, courier = DefinitionPublisher(kafka.bootstrap), KafkaNotificationPublisher(kafka.bootstrap)
    alerts = OpenAlerts()
    follower = AlertFollower(kafka.bootstrap, alerts)
    control = Control(
        followed=topics,
        writer=publisher,
        outlet=courier,
        follower=follower,
        alerts=alerts,
        clickhouse=history,
        backtester=Backtester(clickhouse, windows, notifications),
        open_vault=lambda: open_vault(_secret(access.secret_key), LocalSettings().data, create=True),
        clock=clock,
        allowed=_allowed(DeliverySettings().allow),
        admin_key=_secret(access.admin_key),
        public_url=notifications.public_url,
        zone=windows.timezone,
    )

    scrape = Scrape(
        metrics,
        api.parts,
        client=client,
        live=live,
        reader=reader,
        progress=progress,
        probe=probe,
        control=control,
        clock=clock,
    )

    @contextlib.asynccontextmanager
    async def background() -> AsyncIterator[None]:
        async with live, history, client, contextlib.AsyncExitStack() as stack:
            part.attend()
            for topic in topics.values():
                await stack.enter_async_context(topic)
                part.need(topic.task, topic.task.get_name())
            stack.push_async_callback(publisher.stop)
            stack.push_async_callback(courier.stop)
            readings: dict[str, Reading] = {
                "live state": reader,
                "progress of the groups": probe,
                ALERTS.name: follower,
            }
            running = {
                "reading of windows": reader.run(),
                "probe of the groups": probe.run(),
                f"following {ALERTS.name}": follower.run(),
                "liveness": tell(part, {**readings, **topics}),
            }
            once = {"recall of old alerts": control.recall()}
            if access.admin_key is None:
                once["showing the first key"] = _show_first_key(control)
            await stack.enter_async_context(_running(part, running, once))
            try:
                yield
            finally:
                part.stopping(_STOPPED_WITHIN_S)

    return create_app(
        live=live,
        history=history,
        part=part,
        health_checks=Health(probe, progress, reader, live, history, control, clock),
        scrape=scrape,
        metrics=metrics,
        control=control,
        background=background,
        hosts=(api.host, *api.hosts),
        zone=windows.timezone,
        clock=clock,
    )


async def _show_first_key(control: Control) -> None:
    """Prints the admin key if this is the first start. Not to the log: it is for whoever is looking."""
    key = await control.first_key()
    if key is not None:
        sys.stderr.write(
            f"\n  The admin key, shown this once: {key}\n"
            "  Changing rules, endpoints and silences takes it.\n\n"
        )
        sys.stderr.flush()


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
