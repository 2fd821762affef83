"""The application around what a test wants to see: definitions in memory or on Kafka, any ClickHouse."""

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import httpx
from aiokafka.errors import KafkaConnectionError
from fastapi import FastAPI

from api.alerting.backtesting import Backtester
from api.alerting.follower import AlertFollower
from api.alerting.notifications import NotificationPublisher
from api.alerting.opened import OpenAlerts
from api.app import create_app
from api.definitions.definitions import FOLLOWED
from api.definitions.store import DefinitionReader, DefinitionWriter
from api.health.probe import Probe
from api.health.progress import Progress
from api.history.store import History
from api.live.live import Live
from api.live.reader import Reader
from api.metrics import ApiMetrics
from api.services import Connections, Options, assemble
from api.times import Clock
from infra.liveness import Part
from infra.settings import ClickHouseSettings, NotificationSettings, WindowSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import SECOND, Micros
from schemas.topics import Topic
from streams.definitions.definition import Definition, decode, encode
from streams.deliveries.addresses import AllowList
from streams.deliveries.notification import Notification
from streams.endpoints.secrets import Vault

KEY: Final = "cg_a-key-that-only-tests-know-of"
ADMIN: Final = MappingProxyType({"Authorization": f"Bearer {KEY}"})
NOON: Final[Micros] = 1_777_896_000_000_000
"""2026-05-04T12:00:00Z."""


class MemoryTopic:
    """A compacted topic of definitions: written and followed as Kafka's are, through the same bytes."""

    def __init__(self) -> None:
        self.items: dict[str, Definition] = {}
        self.history: list[bytes | None] = []
        self.away = False
        self.failure: str | None = None
        self.unreadable = 0

    async def ready(self) -> None:
        if self.away:
            await asyncio.Event().wait()

    async def reached(self, offset: int) -> None:
        assert offset < len(self.history)


class MemoryTopics:
    """All of them, and what writes to them."""

    def __init__(self, topics: Sequence[Topic] = FOLLOWED) -> None:
        self.by_name = {topic.name: MemoryTopic() for topic in topics}

    def __getitem__(self, topic: Topic) -> MemoryTopic:
        return self.by_name[topic.name]

    async def publish(self, topic: Topic, definition: Definition) -> int:
        kept = self._reachable(topic)
        kept.history.append(encode(definition))
        kept.items[definition.id] = decode(encode(definition))
        return len(kept.history) - 1

    async def delete(self, topic: Topic, id_: str) -> int:
        kept = self._reachable(topic)
        kept.history.append(None)
        kept.items.pop(id_, None)
        return len(kept.history) - 1

    def _reachable(self, topic: Topic) -> MemoryTopic:
        kept = self.by_name[topic.name]
        if kept.away:
            raise KafkaConnectionError("no broker")
        return kept


class Sent:
    """Takes notifications, and shows them."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []

    async def publish(self, notifications: Sequence[Notification]) -> None:
        self.notifications += notifications


class Time:
    """A clock that a test turns."""

    def __init__(self, now: Micros = NOON) -> None:
        self.now = now

    def __call__(self) -> Micros:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


class Around:
    """The application, and what it stands on. Live figures are not to be had; Kafka is nowhere."""

    def __init__(
        self,
        clickhouse: ClickHouseSettings,
        *,
        readers: Mapping[str, DefinitionReader] | None = None,
        writer: DefinitionWriter | None = None,
        notifications: NotificationPublisher | None = None,
        clock: Clock | None = None,
        admin_key: str | None = KEY,
        allow: Sequence[str] = (),
        parts: Mapping[str, str] | None = None,
        kafka: str = "127.0.0.1:1",
    ) -> None:
        self.time = Time()
        clock = clock or self.time
        self.topics = MemoryTopics()
        self.sent = Sent()
        self.alerts = OpenAlerts()
        self.follower = AlertFollower(kafka, self.alerts)
        self.live = Live()
        self.progress = Progress()
        self.reader = Reader("127.0.0.1:1", self.live, clock)
        self.probe = Probe("127.0.0.1:1", self.progress, self.live, self.reader, clock)
        self.history = History(clickhouse)
        self.client = httpx.AsyncClient(trust_env=False)
        self.vault = Vault([bytes(32)])
        self.backtester = Backtester(clickhouse, WindowSettings(), NotificationSettings())
        connections = Connections(
            live=self.live,
            reader=self.reader,
            progress=self.progress,
            probe=self.probe,
            topics=readers or self.topics.by_name,
            definitions=writer or self.topics,
            notifications=notifications or self.sent,
            alerts=self.follower,
            history=self.history,
            backtester=self.backtester,
            client=self.client,
        )
        options = Options(
            open_vault=lambda: self.vault,
            allowed=AllowList.of(allow),
            admin_key=admin_key,
            parts=parts or {},
        )
        metrics = ApiMetrics()
        self.uptime_s = 0.0
        self.part = Part("api", clock=lambda: self.uptime_s)
        self.services = assemble(connections, options, metrics, self.part, clock)
        self.app: FastAPI = create_app(self.services, metrics, hosts=["chat.example"])

    def reads_alerts(self) -> None:
        """`chat.alerts` is being followed, and has been read."""
        self.follower.failure, self.follower.caught_up = None, True

    def http(self, address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that comes from this address."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 50_000))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")

    async def __aenter__(self) -> "Around":
        await self.live.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.live.__aexit__(None, None, None)
        await self.history.__aexit__(None, None, None)
        await self.client.aclose()


def alert(**differing: Any) -> dict[str, Any]:
    """An alert's record as it is decoded, but for instants, which are in microseconds."""
    return {
        "alert_id": "al_1",
        "transition": 1,
        "revision": 0,
        "state": "firing",
        "rule_id": "error-rate",
        "rule_revision": 3,
        "rule_name": "Error rate",
        "kind": "threshold",
        "severity": "error",
        "labels": ["team=support"],
        "grouping": "service",
        "group": ["service=support-chat"],
        "started_at": NOON - 60 * SECOND,
        "changed_at": NOON - 60 * SECOND,
        "judged_at": NOON - 50 * SECOND,
        "window_start": NOON - 360 * SECOND,
        "window_end": NOON - 60 * SECOND,
        "metric": "errors",
        "aggregation": "ratio",
        "unit": "ratio",
        "value": 0.14,
        "threshold": 0.1,
        "step": None,
        "requests": 1204,
        "parts": 4,
        "parts_expected": 4,
        "summary": "Error rate of support-chat is 14 %.",
        "sources": ["chat.requests/2/81204-83377", "chat.requests/3/5-9"],
        "details": ["mean=0.02"],
    } | differing


def read_back(record: Mapping[str, Any]) -> dict[str, Any]:
    """An alert's record as it comes from Kafka."""
    codec = Codec(schema("Alert"))
    return codec.decode(codec.encode(record))
