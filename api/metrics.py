"""The API's metrics: a typed list, and how the figures that are looked up are collected."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final

import httpx
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from api import exposition
from api.control import Control
from api.health.probe import Probe
from api.health.progress import Progress
from api.live.live import Live, Vitals
from api.live.reader import Reader
from api.times import Clock
from schemas.time import SECOND

_PART_TIMEOUT: Final = 1.0


class ApiMetrics:
    """What the API counts of itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "chatgauge_api_requests",
            "HTTP requests answered.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "chatgauge_api_request_duration_seconds",
            "Time from request to answer.",
            ("route",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def answered(self, route: str, method: str, status: int, started: float) -> None:
        """Count an answer; `started` is from `time.perf_counter`."""
        self.requests.labels(route, method, str(status)).inc()
        self.latency.labels(route).observe(time.perf_counter() - started)


class Scrape:
    """The exposition of all parts."""

    def __init__(
        self,
        own: ApiMetrics,
        parts: Mapping[str, str],
        *,
        client: httpx.AsyncClient,
        live: Live,
        reader: Reader,
        progress: Progress,
        probe: Probe,
        control: Control,
        clock: Clock,
    ) -> None:
        self._own = own
        self._parts = parts
        self._client = client
        self._live = live
        self._reader = reader
        self._progress = progress
        self._probe = probe
        self._control = control
        self._clock = clock

    async def text(self) -> bytes:
        """The API's metrics and those of every part that answers."""
        vitals = await self._live.vitals()
        fetched = await asyncio.gather(*(self._fetch(url) for url in self._parts.values()))
        parts = dict(zip(self._parts, fetched, strict=True))
        own = [
            *self._own.registry.collect(),
            *self._of_live(vitals),
            *self._of_kafka(),
            *self._control.metrics(),
            _up(True),
        ]
        return exposition.merge(
            {"api": own}
            | {part: [*(families or ()), _up(families is not None)] for part, families in parts.items()}
        )

    async def _fetch(self, url: str) -> list[Metric] | None:
        try:
            answer = await self._client.get(url, timeout=_PART_TIMEOUT)
            answer.raise_for_status()
            return exposition.parse(answer.text)
        except (httpx.HTTPError, ValueError):
            return None

    def _of_live(self, vitals: Vitals) -> Iterable[Metric]:
        now = self._clock()
        age = GaugeMetricFamily(
            "chatgauge_watermark_age_seconds",
            "How far a source partition's watermark is behind the clock.",
            labels=("worker", "partition"),
        )
        for worker, watermarks in (("rollup", vitals.rollup_watermarks), ("usage", vitals.usage_watermarks)):
            for partition, watermark in sorted(watermarks.items()):
                age.add_metric((worker, str(partition)), (now - watermark) / SECOND)
        yield age
        records = CounterMetricFamily(
            "chatgauge_api_window_records",
            "Records of chat.windows and chat.usage, by what became of them.",
            labels=("outcome",),
        )
        for outcome, count in vars(vitals.counts).items():
            records.add_metric((outcome,), count)
        yield records
        yield CounterMetricFamily(
            "chatgauge_api_heartbeats_refused",
            "Records of chat.closed that could not be read.",
            value=self._reader.refused,
        )
        yield GaugeMetricFamily("chatgauge_api_blocks", "Window blocks in memory.", value=vitals.blocks)
        held = GaugeMetricFamily(
            "chatgauge_api_memory_bytes", "Memory held by window blocks and merged results.", labels=("what",)
        )
        held.add_metric(("blocks",), vitals.block_bytes)
        held.add_metric(("merged",), vitals.cache_bytes)
        yield held

    def _of_kafka(self) -> Iterable[Metric]:
        lag = GaugeMetricFamily(
            "chatgauge_lag_records",
            "Records that wait for a consumer group.",
            labels=("group", "topic", "partition"),
        )
        members = GaugeMetricFamily(
            "chatgauge_group_members", "Members of a consumer group.", labels=("group", "topic")
        )
        for follower, sighting in self._progress.sightings().items():
            members.add_metric((follower.group, follower.topic), sighting.members)
            for partition, offsets in sorted(sighting.partitions.items()):
                lag.add_metric((follower.group, follower.topic, str(partition)), offsets.lag)
        yield lag
        yield members
        yield GaugeMetricFamily(
            "chatgauge_kafka_up", "Whether Kafka answers.", value=int(self._probe.failure is None)
        )
        if self._probe.dead_letters is not None:
            yield CounterMetricFamily(
                "chatgauge_dead_letters_published",
                "Records ever published to chat.dead-letters.",
                value=self._probe.dead_letters,
            )


def _up(answers: bool) -> Metric:
    return GaugeMetricFamily("chatgauge_part_up", "Whether a part serves its metrics.", value=int(answers))
