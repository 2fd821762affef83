"""The metrics of all parts, with the figures of the API that are looked up when it is asked."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import httpx
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from api import exposition
from api.health.monitored import Monitored
from api.live.live import Vitals
from api.metrics import ApiMetrics
from api.times import Clock
from schemas.time import SECOND
from schemas.topics import ALERTS
from streams.notifications.transition import FIRING, PENDING

_PART_TIMEOUT: Final = 1.0


class Scrape:
    """The exposition of all parts."""

    def __init__(
        self,
        own: ApiMetrics,
        parts: Mapping[str, str],
        client: httpx.AsyncClient,
        monitored: Monitored,
        clock: Clock,
    ) -> None:
        self._own = own
        self._parts = parts
        self._client = client
        self._monitored = monitored
        self._clock = clock

    async def text(self) -> bytes:
        """The API's metrics and those of every part that answers."""
        vitals = await self._monitored.live.vitals()
        fetched = await asyncio.gather(*(self._fetch(url) for url in self._parts.values()))
        parts = dict(zip(self._parts, fetched, strict=True))
        own = [
            *self._own.registry.collect(),
            *self._of_live(vitals),
            *self._of_kafka(),
            *self._of_alerts(),
            *self._of_definitions(),
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
            value=self._monitored.reader.refused,
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
        for follower, sighting in self._monitored.progress.sightings().items():
            members.add_metric((follower.group, follower.topic), sighting.members)
            for partition, offsets in sorted(sighting.partitions.items()):
                lag.add_metric((follower.group, follower.topic, str(partition)), offsets.lag)
        yield lag
        yield members
        yield GaugeMetricFamily(
            "chatgauge_kafka_up", "Whether Kafka answers.", value=int(self._monitored.probe.failure is None)
        )
        if self._monitored.probe.dead_letters is not None:
            yield CounterMetricFamily(
                "chatgauge_dead_letters_published",
                "Records ever published to chat.dead-letters.",
                value=self._monitored.probe.dead_letters,
            )

    def _of_alerts(self) -> Iterable[Metric]:
        alerts = self._monitored.alerts
        opened = GaugeMetricFamily("chatgauge_api_open_alerts", "Alerts that are open.", labels=("state",))
        states = Counter(record["state"] for record in alerts.opened.open())
        for state in (PENDING, FIRING):
            opened.add_metric((state,), states[state])
        yield opened

    def _of_definitions(self) -> Iterable[Metric]:
        readers = self._monitored.definitions.readers
        refused = CounterMetricFamily(
            "chatgauge_api_records_refused",
            "Records of alerts and definitions that could not be read.",
            labels=("topic",),
        )
        refused.add_metric((ALERTS.name,), self._monitored.alerts.follower.refused)
        definitions = GaugeMetricFamily(
            "chatgauge_api_definitions", "Rules, endpoints, silences and keys there are.", labels=("topic",)
        )
        for topic, reader in readers.items():
            refused.add_metric((topic,), reader.unreadable)
            definitions.add_metric((topic,), len(reader.items))
        yield refused
        yield definitions
        yield CounterMetricFamily(
            "chatgauge_api_wrong_keys",
            "Wrong admin keys that were tried.",
            value=self._monitored.guard.refused,
        )


def _up(answers: bool) -> Metric:
    return GaugeMetricFamily("chatgauge_part_up", "Whether a part serves its metrics.", value=int(answers))
