"""A chat service that goes on measuring while its Kafka is away: what its calls cost, and what arrives.

    python -m tests.faults.sdk_outage --seconds 120 --way killed

The service is this process: threads and an asyncio loop, a gauge of the SDK, and a Kafka behind a proxy.
What arrived is read from the broker and compared with what the service noted down itself.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import json
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import chatgauge
import fastavro
from aiokafka import AIOKafkaConsumer

from infra import topics
from infra.kafka import LocalKafka
from infra.kafka.server import Outside
from infra.ports import free_port
from tests.faults.proxy import Proxy

WAYS = ("killed", "frozen", "refused", "slow")
"""SIGKILL and a restart; connections that stay, without an answer; resets and refusal; 1 s each way."""

_SCHEMAS = Path(__file__).parents[2] / "schemas"
_DROPPED = "sdk_dropped_events"
_HEADER = 10
_CALM_S = 2.0
_THREADS = 3
_USERS = 5
_SLOW_S = 1.0
_DRAINED_WITHIN_S = 180.0


@dataclass(frozen=True)
class Figures:
    """What calls took, in microseconds; `control` is a little pure Python, at the same moments."""

    calls: int
    p50: float
    p99: float
    max: float
    control_p99: float
    control_max: float


@dataclass
class Outcome:
    """What an outage came to."""

    way: str
    seconds: float
    offered: int = 0
    sent: int = 0
    dropped: int = 0
    reported: int = 0
    """Dropped, as the service itself has told Kafka."""
    failed: int = 0
    snapshots: int = 0
    uneven: int = 0
    """Snapshots in which the counts did not add up."""
    lost: int = 0
    """Accounted as sent, and not there."""
    strangers: int = 0
    """There, and not what was measured: another time, other bytes under the same id, a second id."""
    disordered: int = 0
    repeats: int = 0
    most_buffered: int = 0
    limit: int = 0
    grown: int = 0
    """Bytes of resident memory, from before the outage to its peak."""
    drained_s: float = 0.0
    """From the end of the outage until everything from before its end was settled."""
    slowest_new_s: float = 0.0
    """The longest way of an event measured after everything was settled."""
    calls: dict[str, Figures] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether nothing was lost, made up, reordered or miscounted."""
        even = self.offered == self.sent + self.dropped + self.failed and self.reported == self.dropped
        return even and not (self.uneven or self.lost or self.strangers or self.disordered)


class Place:
    """A Kafka, and a proxy before it that its clients come by."""

    def __init__(
        self, directory: Path, partitions: int = 3, kafka: Callable[..., LocalKafka] = LocalKafka
    ) -> None:
        self._partitions = partitions
        behind = free_port()
        self.proxy = Proxy(("127.0.0.1", behind), free_port())
        self.kafka = kafka(directory, port=free_port(), outside=Outside(behind, self.proxy.port))

    @property
    def bootstrap(self) -> str:
        """For the service."""
        return f"127.0.0.1:{self.proxy.port}"

    def __enter__(self) -> "Place":
        self.kafka.start()
        self.proxy.start()
        asyncio.run(topics.create(self.kafka.bootstrap, partitions=self._partitions))
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self.kafka.stop()

    def fail(self, way: str) -> None:
        """Be away."""
        if way == "killed":
            self.kafka.process.kill()
            self.proxy.reset_all()
        elif way == "frozen":
            self.proxy.freeze()
        elif way == "slow":
            self.proxy.delay(_SLOW_S)
        else:
            self.proxy.refuse()
            self.proxy.reset_all()

    def mend(self, way: str) -> None:
        """Be back."""
        if way == "killed":
            self.kafka.stop()
            self.kafka.start()
        self.proxy.clear()


class Service:
    """Answers questions, measures them, and notes down what it measured."""

    def __init__(self, gauge: chatgauge.Gauge, seed: int, rate: float) -> None:
        self._gauge = gauge
        self._seed = seed
        self._pause = _THREADS / rate
        self._stopping = threading.Event()
        self.phase = "before"
        self.offered = [0] * _THREADS
        self.times: list[dict[str, list[int]]] = [{} for _ in range(_THREADS)]
        self.control: list[dict[str, list[int]]] = [{} for _ in range(_THREADS)]
        self.measured: list[dict[tuple[str, str], tuple[int, int]]] = [{} for _ in range(_THREADS)]
        """By request and phase: between which microseconds it must have occurred."""
        self._threads = [threading.Thread(target=self._live, args=(n,)) for n in range(_THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _live(self, number: int) -> None:
        """The last one lives on a loop."""
        if number == _THREADS - 1:
            asyncio.run(self._answer_on_a_loop(number))
            return
        rng = random.Random(f"{self._seed}/{number}")
        turn = 0
        while not self._stopping.wait(self._pause * rng.uniform(0.5, 1.5)):
            self._answer(number, turn)
            turn += 1

    async def _answer_on_a_loop(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        turn = 0
        while not self._stopping.is_set():
            await asyncio.sleep(self._pause * rng.uniform(0.5, 1.5))
            self._answer(number, turn)
            turn += 1

    def _answer(self, number: int, turn: int) -> None:
        phase = self.phase
        times = self.times[number].setdefault(phase, [])
        control = self.control[number].setdefault(phase, [])
        ticks = time.perf_counter_ns
        began = ticks()
        sum(range(500))
        control.append(ticks() - began)

        began, wall = ticks(), time.time_ns() // 1000
        request = self._gauge.request(
            provider="openai",
            model="gpt-4o",
            user_id=f"u{number}-{turn % _USERS}",
            request_id=f"{self._seed}/{number}/{turn}",
        ).start()
        times.append(ticks() - began)
        self.measured[number][request.request_id, "started"] = (wall, time.time_ns() // 1000)

        began = ticks()
        request.first_token()
        request.usage(prompt_tokens=812, completion_tokens=turn)
        times.append(ticks() - began)

        began = ticks()
        self._gauge.sample("open_websockets", turn)
        times.append(ticks() - began)

        began, wall = ticks(), time.time_ns() // 1000
        request.finish()
        times.append(ticks() - began)
        self.measured[number][request.request_id, "finished"] = (wall, time.time_ns() // 1000)
        self.offered[number] += 3

    def figures(self, phase: str) -> Figures:
        calls = sorted(t for times in self.times for t in times.get(phase, []))
        control = sorted(t for times in self.control for t in times.get(phase, []))
        return Figures(
            len(calls),
            *(_at(calls, share) for share in (0.5, 0.99, 1.0)),
            *(_at(control, share) for share in (0.99, 1.0)),
        )


class Auditor:
    """Looks at the gauge's counts, and at memory, again and again."""

    def __init__(self, gauge: chatgauge.Gauge) -> None:
        self._gauge = gauge
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look_on)
        self.snapshots = self.uneven = self.most_buffered = 0
        self.resident = self.peak = _resident_bytes()

    def __enter__(self) -> "Auditor":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _look_on(self) -> None:
        offered = settled = 0
        while not self._stopping.wait(0.005):
            stats = self._gauge.stats()
            even = stats.offered == stats.queued + stats.sent + stats.dropped + stats.failed
            forward = stats.offered >= offered and stats.sent + stats.dropped + stats.failed >= settled
            offered, settled = stats.offered, stats.sent + stats.dropped + stats.failed
            self.snapshots += 1
            self.uneven += not (even and forward)
            self.most_buffered = max(self.most_buffered, stats.buffered_bytes)
            if self.snapshots % 50 == 0:
                self.peak = max(self.peak, _resident_bytes())


def outage(
    seconds: float,
    seed: int,
    *,
    way: str | None = None,
    rate: float = 200.0,
    buffer_bytes: int = 50_000_000,
    place: Place | None = None,
) -> Outcome:
    """Have Kafka away for so long, under `rate` requests a second of three events each.

    The seed decides the way, unless it is given, and the moments. `place` is used as it is found, and
    left running; without it, a Kafka is started and stopped.
    """
    way = way or random.Random(seed).choice(WAYS)
    with contextlib.ExitStack() as stack:
        if place is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sdk-outage-"))
            place = stack.enter_context(Place(Path(directory)))
        service_name = f"outage-{uuid.uuid4().hex[:8]}"
        outcome = Outcome(way, seconds, limit=buffer_bytes)
        gauge = chatgauge.Gauge(
            service_name, kafka=place.bootstrap, buffer_bytes=buffer_bytes, disabled=False, exit_timeout=1.0
        )
        service = Service(gauge, seed, rate)
        try:
            with Auditor(gauge) as auditor:
                _go_through(place, gauge, service, outcome)
        finally:
            place.mend("refused")
            service.stop()
            gauge.close()
        stats = gauge.stats()
        outcome.offered, outcome.sent = stats.offered, stats.sent
        outcome.dropped, outcome.failed = stats.dropped, stats.failed
        outcome.uneven = auditor.uneven + (stats.offered != sum(service.offered))
        outcome.snapshots, outcome.most_buffered = auditor.snapshots, auditor.most_buffered
        outcome.grown = auditor.peak - auditor.resident
        outcome.calls = {phase: service.figures(phase) for phase in ("before", "during", "after")}
        _compare(outcome, service, *asyncio.run(_read(place.kafka.bootstrap, service_name)))
    return outcome


def _go_through(place: Place, gauge: chatgauge.Gauge, service: Service, outcome: Outcome) -> None:
    gauge.sample("warm", 0)
    if not gauge.flush(30):
        raise RuntimeError("Kafka is away before the outage")
    service.offered[0] += 1
    gc.collect()
    service.start()
    time.sleep(min(_CALM_S, outcome.seconds))
    service.phase = "during"
    place.fail(outcome.way)
    time.sleep(outcome.seconds)
    place.mend(outcome.way)
    service.phase = "after"
    back = time.monotonic()
    if not gauge.flush(_DRAINED_WITHIN_S):
        raise RuntimeError(
            f"the backlog is not sent {_DRAINED_WITHIN_S:.0f} s after the outage: {gauge.stats()}"
        )
    outcome.drained_s = time.monotonic() - back
    time.sleep(min(_CALM_S, outcome.seconds))
    began = time.monotonic()
    gauge.sample("new", 0)
    service.offered[0] += 1
    if not gauge.flush(30):
        raise RuntimeError("new events don't arrive after the outage")
    outcome.slowest_new_s = time.monotonic() - began
    service.stop()
    if not gauge.flush(30):
        raise RuntimeError("the last events don't arrive")


def _compare(
    outcome: Outcome, service: Service, requests: list[tuple[int, int, bytes]], samples: set[bytes]
) -> None:
    """`requests` are partition, offset and value; of `samples` there are the values."""
    read_request, read_sample = _reader("request_event.avsc"), _reader("sample.avsc")
    measured = {place: times for part in service.measured for place, times in part.items()}
    values: dict[str, bytes] = {}
    ids: dict[tuple[str, str], set[str]] = {}
    reached: Counter[str] = Counter()
    for _, _, value in sorted(requests):
        record = read_request(value)
        event_id, place = record["event_id"], (record["request_id"], record["phase"])
        if event_id in values:
            outcome.repeats += 1
            outcome.strangers += values[event_id] != value
            continue
        values[event_id] = value
        ids.setdefault(place, set()).add(event_id)
        since, until = measured.get(place, (0, -1))
        occurred = int(record["occurred_at"].timestamp() * 1_000_000 + 0.5)
        outcome.strangers += not since <= occurred <= until or len(ids[place]) > 1
        if record["phase"] == "finished":
            turn = record["completion_tokens"] + 1
            outcome.disordered += turn <= reached[record["user_id"]]
            reached[record["user_id"]] = turn
    told = [record["value"] for record in map(read_sample, samples) if record["name"] == _DROPPED]
    outcome.reported = int(sum(told))
    arrived = len(values) + len(samples) - len(told)
    outcome.lost = max(0, outcome.sent - arrived)
    outcome.strangers += max(0, arrived - outcome.sent)


def _reader(name: str) -> Callable[[bytes], Any]:
    schema = fastavro.parse_schema(json.loads((_SCHEMAS / name).read_text()))
    return lambda value: fastavro.schemaless_reader(io.BytesIO(value[_HEADER:]), schema, None)


async def _read(bootstrap: str, service: str) -> tuple[list[tuple[int, int, bytes]], set[bytes]]:
    consumer = AIOKafkaConsumer(
        "chat.requests", "chat.samples", bootstrap_servers=bootstrap, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        mark = service.encode()
        requests: list[tuple[int, int, bytes]] = []
        samples: set[bytes] = set()
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                for message in messages:
                    if mark not in message.value:
                        continue
                    if message.topic == "chat.requests":
                        requests.append((message.partition, message.offset, message.value))
                    else:
                        samples.add(message.value)
        return requests, samples
    finally:
        await consumer.stop()


def _at(ordered: list[int], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000 if ordered else 0.0


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _lines(outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.way} for {outcome.seconds:.0f} s: {'exact' if outcome.exact else 'NOT EXACT'}"
    for name, value in asdict(outcome).items():
        if name not in ("calls", "way", "seconds"):
            yield f"  {name:<14} {value:,.2f}" if isinstance(value, float) else f"  {name:<14} {value:,}"
    yield "  calls, us       count      p50      p99      max   control: p99      max"
    for phase, figures in outcome.calls.items():
        yield (
            f"  {phase:<10} {figures.calls:>10,} {figures.p50:>8.1f} {figures.p99:>8.1f} {figures.max:>8.0f}"
            f"   {figures.control_p99:>12.1f} {figures.control_max:>8.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, default=None)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second, of three events each")
    parser.add_argument("--buffer-bytes", type=int, default=50_000_000)
    given = parser.parse_args()
    outcome = outage(
        given.seconds, given.seed, way=given.way, rate=given.rate, buffer_bytes=given.buffer_bytes
    )
    print("\n".join(_lines(outcome)))
    raise SystemExit(not outcome.exact)


if __name__ == "__main__":
    main()
