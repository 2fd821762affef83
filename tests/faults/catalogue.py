"""The faults: what each does, and how it is known to be over.

A fault is a course: it does something, and yields what it then waits for. It leaves everything as it
found it, also when it is given up.
"""

import signal
from collections.abc import Mapping

from tests.faults import bombs, connections, inside, transactions  # noqa: F401 - they register their kinds
from tests.faults import part as points
from tests.faults.answering import Answering
from tests.faults.registry import CATALOGUE, fault
from tests.faults.scene import Course, Scene, Until
from tests.faults.schedule import EVERYTHING, Kind

_WORKERS = ("rollup", "usage")
_SINK = ("sink",)
_INPUT = ("input",)
_WORK = {
    "rollup": "chatgauge_stream_events_total",
    "usage": "chatgauge_stream_events_total",
    "deliveries": "chatgauge_delivery_notifications_total",
    "sink": "chatgauge_sink_records_total",
}
"""The metric of a part that grows as it works."""
_NOT_ENOUGH_SPACE = 243
_MEMORY_LIMIT_EXCEEDED = 241


def _killed_at(scene: Scene, point: str) -> Course:
    process = scene.process
    process.arm(point)
    yield from scene.reaching(process, point)
    process.signal(signal.SIGKILL)
    yield from scene.recovered()


@fault("sink-killed-before-insert", _SINK, within_s=45)
def _(scene: Scene) -> Course:
    """SIGKILL of the sink with a batch read and its insert not yet made."""
    yield from _killed_at(scene, points.BEFORE_INSERT)


@fault("sink-killed-after-insert", _SINK, within_s=45)
def _(scene: Scene) -> Course:
    """SIGKILL of the sink with an insert made and its offsets not yet committed."""
    yield from _killed_at(scene, points.AFTER_INSERT)


@fault("sink-killed-after-commit", _SINK, within_s=45)
def _(scene: Scene) -> Course:
    """SIGKILL of the sink right after a commit."""
    yield from _killed_at(scene, points.AFTER_COMMIT)


@fault("clickhouse-killed", _SINK)
def _(scene: Scene) -> Course:
    """SIGKILL of ClickHouse; it is started again."""
    scene.stack.processes["clickhouse"].signal(signal.SIGKILL)
    yield from scene.recovered()


@fault("clickhouse-refuses", _SINK, lasting=True)
def _(scene: Scene) -> Course:
    """ClickHouse refuses connections, and those there were are reset."""
    proxy = scene.stack.clickhouse_proxy
    proxy.refuse()
    proxy.reset_all()
    try:
        yield from scene.lasting(scene.fault.seconds)
    finally:
        proxy.clear()
    yield from scene.recovered()


@fault("clickhouse-fails", _SINK, lasting=True)
def _(scene: Scene) -> Course:
    """ClickHouse answers every request with an error that passes (memory limit exceeded)."""
    yield from _answered(scene, _MEMORY_LIMIT_EXCEEDED)


@fault("clickhouse-disk-full", _SINK, lasting=True)
def _(scene: Scene) -> Course:
    """ClickHouse's disk fills up, to the last byte; where it has none of its own, it says so."""
    disk = scene.stack.disk
    if not disk.mounted:
        yield from _answered(scene, _NOT_ENOUGH_SPACE)
        return
    noticed = scene.stack.times_short_of_space()
    disk.shorten()
    try:
        yield Until("ClickHouse notices", lambda: scene.stack.times_short_of_space() > noticed)
        disk.fill()
        yield from scene.lasting(scene.fault.seconds)
    finally:
        disk.free()
    yield from scene.recovered()


def _answered(scene: Scene, code: int) -> Course:
    proxy = scene.stack.clickhouse_proxy
    with Answering(code) as failing:
        target, proxy.target = proxy.target, failing.address
        proxy.reset_all()
        try:
            yield from scene.lasting(scene.fault.seconds)
        finally:
            proxy.target = target
            proxy.reset_all()
    scene.notes.append(f"{failing.answered} requests failed with code {code}")
    yield from scene.recovered()


def _late_writer(scene: Scene, point: str) -> Course:
    """Stopped with something in hand, until its partitions have moved; then it goes on."""
    second = scene.stack.join(scene.part)
    first = scene.process
    try:
        yield from _working(scene, second.name)
        first.arm(point)
        yield from scene.reaching(first, point)
        yield from scene.recovered()
        first.signal(signal.SIGCONT)
        yield from scene.going_on()
        yield from _working(scene, first.name)
    finally:
        first.signal(signal.SIGCONT)
        scene.stack.leave(second)
    yield from scene.going_on()


def _working(scene: Scene, name: str) -> Course:
    """Until a process, or its successor, does its part of the work again."""
    before = {pid: _worked(scene, name) for pid in [scene.stack.processes[name].pid]}

    def works() -> bool:
        process = scene.stack.processes[name]
        return process.running and _worked(scene, name) > before.get(process.pid, 0.0)

    yield Until(f"{name} takes part again", works, 90)


def _worked(scene: Scene, name: str) -> float:
    return scene.stack.processes[name].metric(_WORK[scene.part])


@fault("late-sink", _SINK)
def _(scene: Scene) -> Course:
    """SIGSTOP of a sink before an insert, until its partitions have moved to a second one; SIGCONT."""
    yield from _late_writer(scene, points.BEFORE_INSERT)


@fault("late-worker", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """SIGSTOP of a worker before it writes, until its partitions have moved to a second one; SIGCONT."""
    yield from _late_writer(scene, points.BEFORE_WRITE)


@fault("late-delivery-worker", ("deliveries",), within_s=30)
def _(scene: Scene) -> Course:
    """SIGSTOP of the delivery agent before it writes its state, until another has taken over; SIGCONT."""
    yield from _late_writer(scene, points.BEFORE_WRITE)


@fault("worker-killed", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """SIGKILL of a worker at any moment."""
    yield from scene.lasting(scene.chance.uniform(0, 1))
    scene.process.signal(signal.SIGKILL)
    yield from scene.recovered()


@fault("worker-killed-before-writing", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """SIGKILL of a worker in a batch: counted, and not yet written."""
    yield from _killed_at(scene, points.BEFORE_WRITE)


@fault("worker-killed-before-acknowledging", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """SIGKILL of a worker in a batch: its blocks written, and not yet acknowledged."""
    yield from _killed_at(scene, points.BEFORE_ACKNOWLEDGING)


@fault("worker-killed-recovering", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """SIGKILL of a worker, and of its successor while that reads its tables back."""
    process = scene.process
    process.arm(points.IN_RECOVERY)
    process.signal(signal.SIGKILL)
    yield from scene.reaching(process, points.IN_RECOVERY)
    process.signal(signal.SIGKILL)
    yield from scene.recovered()


@fault("agent-raises", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """The body of a worker's agent raises in the midst of the stream."""
    process = scene.process
    process.killed = True
    process.arm(points.IN_THE_BODY, points.RAISE)
    yield from scene.reaching(process, points.IN_THE_BODY)
    yield from scene.recovered()


@fault("second-worker", _WORKERS, within_s=30, either=True)
def _(scene: Scene) -> Course:
    """A second worker joins, does its part of the work, and leaves."""
    second = scene.stack.join(scene.part)
    try:
        yield from _working(scene, second.name)
        yield from _working(scene, scene.part)
        yield from scene.recovered()
    finally:
        scene.stack.leave(second)
    yield Until(f"{second.name} has left", lambda: not second.running, 30)
    yield from scene.recovered()


@fault("broker-killed", EVERYTHING, within_s=60)
def _(scene: Scene) -> Course:
    """SIGKILL of the broker; it is started again."""
    scene.stack.processes["kafka"].signal(signal.SIGKILL)
    yield from scene.recovered(within_s=120)


@fault("bad-input", _INPUT)
def _(scene: Scene) -> Course:
    """Bad Avro, unknown fingerprints, null values and records of 1 MB, among good ones."""
    for _ in range(10):
        scene.feed.all_of("bad", 20)
        scene.feed.burst(100)
    scene.feed.all_of("large", 3)
    yield from scene.going_on(within_s=180)


@fault("wrong-times", _INPUT)
def _(scene: Scene) -> Course:
    """Events of an hour ago, minutes ahead, days too late and from the far future, out of order."""
    for kind in ("late", "ahead", "too_late", "in_the_future", "repeat_edge"):
        scene.feed.all_of(kind, 60)
    yield from scene.going_on(within_s=180)


@fault("repeats", _INPUT)
def _(scene: Scene) -> Course:
    """A producer sends again what it has sent before."""
    for kind in ("repeat_soon", "repeat_edge", "repeat_any"):
        scene.feed.all_of(kind, 200)
    yield from scene.going_on(within_s=180)


@fault("history-replayed", _INPUT)
def _(scene: Scene) -> Course:
    """Events of years ago are brought in while live ones come."""
    scene.feed.imports(1_500)
    yield from scene.going_on(within_s=180)


@fault("load", _INPUT)
def _(scene: Scene) -> Course:
    """A burst of load."""
    scene.feed.burst(5_000)
    yield from scene.going_on(within_s=180)


KINDS: Mapping[str, Kind] = {name: entry.kind for name, entry in CATALOGUE.items()}
