"""The sinks as a process: every topic's consumer, one ClickHouse, one page of metrics."""

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry

from clients.clickhouse.connection import connect, is_transient, said
from clients.retry import GivenUp, retrying
from infra import logs
from infra.daemon_thread import daemon_thread
from infra.liveness import Part, attended, reason_of, side_by_side
from infra.settings import (
    ClickHouseSettings,
    KafkaSettings,
    RegistrySettings,
    RetentionSettings,
    SinkSettings,
    WindowSettings,
)
from infra.tasks import ended
from schemas.registry import SchemaRegistry
from schemas.topics import DEAD_LETTERS, REQUESTS, SAMPLES, SPANS, USAGE, WINDOWS, Topic
from sinks import alerts, events, samples, spans
from sinks.dead_letter_producer import DeadLetterProducer
from sinks.dead_letters import DeadLetterWriter
from sinks.dlq_limit import DlqLimit
from sinks.errors import SinkError
from sinks.insert import Store
from sinks.metrics import SinkMetrics
from sinks.rebuild.automatic import AutomaticRebuild
from sinks.rebuild.history import History
from sinks.sink import Sink
from sinks.tables import prepare
from sinks.windows import WindowWriter
from sinks.writer import Writer
from streams.counting.pricing import PriceList

_LOG: Final = logging.getLogger(__name__)
_STOPPED_WITHIN_S: Final = 30.0
"""After so long a process that was told to stop is ended: a request to ClickHouse may have hung."""


@dataclass(frozen=True)
class Settings:
    """Everything that the sinks can be told."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = field(default_factory=ClickHouseSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    windows: WindowSettings = field(default_factory=WindowSettings)
    sink: SinkSettings = field(default_factory=SinkSettings)
    retention: RetentionSettings = field(default_factory=RetentionSettings)


def run(settings: Settings | None = None) -> None:
    """Runs the sinks until SIGTERM or SIGINT. Raises a SinkError when a person has to act.

    Whatever else ends them ends the process, with the reason as the last line of the log.
    """
    logs.begin()
    for library in ("urllib3.connectionpool", "clickhouse_connect"):
        # Each failed request is reported by who repeats it; these add a page of URL each time.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    chosen = settings or Settings()
    prometheus = CollectorRegistry()
    with attended("sink", chosen.sink.metrics_port, prometheus) as part:
        try:
            asyncio.run(_until_signalled(chosen, part, prometheus))
        except SinkError:
            raise
        except BaseException as error:
            part.end(reason_of(error), error)


async def serve(
    settings: Settings, stopping: asyncio.Event, prometheus: CollectorRegistry, part: Part
) -> None:
    """Brings the tables up to date, then runs every sink until `stopping` is set, or one ends before."""
    metrics = SinkMetrics(prometheus)
    if not await _prepared(settings, metrics, stopping, part):
        return
    registry = SchemaRegistry(settings.registry.url) if settings.registry.url else None
    store = Store(lambda: connect(settings.clickhouse), metrics)
    box = DeadLetterProducer(settings.kafka.bootstrap, metrics)
    needed: dict[str, Coroutine[Any, Any, None]] = {}
    for topic, writer in writers(settings, metrics, registry):
        sink = Sink(
            topic,
            writer,
            bootstrap=settings.kafka.bootstrap,
            store=store,
            box=box,
            metrics=metrics,
            settings=settings.sink,
            part=part,
        )
        needed[topic.name] = sink.run(stopping)
        if topic is REQUESTS:
            needed["rebuilding"] = _rebuilding(settings, metrics, sink).run(stopping)
    try:
        # One way out: what ends the first sink ends the process, the others having wound up.
        await side_by_side(needed, stopping)
    finally:
        await box.stop()
        await store.close()
        if registry is not None:
            registry.close()


def _rebuilding(settings: Settings, metrics: SinkMetrics, requests: Sink) -> AutomaticRebuild:
    """One of all sinks does it: who has the first partition."""
    return AutomaticRebuild(
        lambda: connect(settings.clickhouse),
        lambda client: History(client, settings.windows.timezone, settings.retention.events_days),
        metrics,
        settings.sink,
        responsible=lambda: requests.holds(0),
    )


def writers(
    settings: Settings, metrics: SinkMetrics, registry: SchemaRegistry | None = None
) -> list[tuple[Topic, Writer]]:
    """The writer of each topic that goes to ClickHouse."""
    clock = _now_us
    limit = DlqLimit(settings.sink.dead_letter_share, settings.sink.dead_letter_window)
    most = settings.kafka.max_unpacked_bytes
    blocks = [
        (
            topic,
            WindowWriter(
                topic,
                clock,
                metrics,
                open_pane_interval=settings.sink.open_pane_interval,
                timezone=settings.windows.timezone,
                max_rows=settings.sink.max_rows,
                most_bytes=most,
            ),
        )
        for topic in (WINDOWS, USAGE)
    ]
    return [
        (REQUESTS, events.writer(clock, PriceList(), registry, limit=limit, most_bytes=most)),
        (SPANS, spans.writer(clock, registry, limit=limit, most_bytes=most)),
        (SAMPLES, samples.writer(clock, registry, limit=limit, most_bytes=most)),
        *blocks,
        *alerts.writers(clock, registry, limit=limit, most_bytes=most),
        (DEAD_LETTERS, DeadLetterWriter(metrics, most_bytes=most)),
    ]


async def _prepared(settings: Settings, metrics: SinkMetrics, stopping: asyncio.Event, part: Part) -> bool:
    """Waits for ClickHouse, and migrates. False when stopped before."""
    unit = part.unit("tables")
    unit.wait_for("ClickHouse, to bring its tables up to date")

    async def attempt() -> bool:
        preparing = asyncio.ensure_future(daemon_thread(prepare, settings.clickhouse, settings.retention))
        if not await ended(preparing, stopping):
            return False
        preparing.result()
        return True

    def failed(error: Exception, number: int, wait: float) -> None:
        metrics.clickhouse_up.set(0)
        unit.wait_for(f"ClickHouse: {said(error)}")
        _LOG.warning("ClickHouse does not answer yet: %s; attempt %d in %.1f s", said(error), number, wait)

    try:
        prepared = await retrying(
            attempt, passes=is_transient, failed=failed, wanted=lambda: not stopping.is_set()
        )
    except GivenUp:
        return False
    if prepared:
        metrics.clickhouse_up.set(1)
        part.without(unit.name)
    return prepared


async def _until_signalled(settings: Settings, part: Part, prometheus: CollectorRegistry) -> None:
    part.attend()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        part.stopping(_STOPPED_WITHIN_S)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await serve(settings, stopping, prometheus, part)


def _now_us() -> int:
    return time.time_ns() // 1_000
