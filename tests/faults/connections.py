"""Faults of the connections to Kafka and ClickHouse: slow, reset, half open, answers that get lost."""

from tests.faults.proxy import Proxy
from tests.faults.registry import fault
from tests.faults.scene import Course, Scene, Until
from tests.faults.schedule import EVERYTHING

_SINK = ("sink",)


def _slow(scene: Scene, proxy: Proxy) -> Course:
    proxy.delay(scene.chance.uniform(0.05, 0.4))
    try:
        yield from scene.lasting(scene.fault.seconds)
    finally:
        proxy.clear()
    yield from scene.recovered()


def _reset(scene: Scene, proxy: Proxy) -> Course:
    for _ in range(scene.chance.randint(1, 4)):
        proxy.reset_all()
        yield from scene.lasting(scene.chance.uniform(0, 1))
    yield from scene.recovered()


def _half_open(scene: Scene, proxy: Proxy) -> Course:
    proxy.freeze()
    try:
        yield from scene.lasting(scene.fault.seconds)
        if scene.chance.random() < 0.5:
            scene.notes.append("what was on its way is gone")
            proxy.reset_all()
    finally:
        proxy.clear()
    yield from scene.recovered()


def _lost_answers(scene: Scene, proxy: Proxy, marker: bytes = b"") -> Course:
    before, wanted = proxy.lost, scene.chance.randint(1, 3)
    try:
        proxy.lose_responses(wanted, marker)
        yield Until(f"{wanted} answers are lost", lambda: proxy.lost >= before + wanted, 60)
    finally:
        proxy.clear()
    yield from scene.recovered()


@fault("kafka-slow", EVERYTHING)
def _(scene: Scene) -> Course:
    """Every byte to and from Kafka is late."""
    yield from _slow(scene, scene.stack.kafka_proxy)


@fault("kafka-resets", EVERYTHING)
def _(scene: Scene) -> Course:
    """All connections to Kafka are reset, some times over."""
    yield from _reset(scene, scene.stack.kafka_proxy)


@fault("kafka-half-open", EVERYTHING)
def _(scene: Scene) -> Course:
    """Connections to Kafka stay open, and nothing passes."""
    yield from _half_open(scene, scene.stack.kafka_proxy)


@fault("kafka-answers-lost", EVERYTHING)
def _(scene: Scene) -> Course:
    """Blocks are written to Kafka, and the answer is lost with the connection."""
    yield from _lost_answers(scene, scene.stack.kafka_proxy, b"chat.windows")


@fault("clickhouse-slow", _SINK)
def _(scene: Scene) -> Course:
    """Every byte to and from ClickHouse is late."""
    yield from _slow(scene, scene.stack.clickhouse_proxy)


@fault("clickhouse-resets", _SINK)
def _(scene: Scene) -> Course:
    """All connections to ClickHouse are reset, some times over."""
    yield from _reset(scene, scene.stack.clickhouse_proxy)


@fault("clickhouse-half-open", _SINK, lasting=True)
def _(scene: Scene) -> Course:
    """Connections to ClickHouse stay open, and nothing passes: it hangs."""
    yield from _half_open(scene, scene.stack.clickhouse_proxy)


@fault("clickhouse-answers-lost", _SINK)
def _(scene: Scene) -> Course:
    """Events are inserted, and the answer is lost with the connection."""
    yield from _lost_answers(scene, scene.stack.clickhouse_proxy, b"events")
