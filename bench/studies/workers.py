"""One worker and two of them on the same topic, four partitions: throughput, and CPU per event.

Real processes. They join their group first, while the topic is empty; then the load comes, packed
beforehand, as fast as the broker takes it. The clock runs from the first batch sent to the last block that
counts the last event (rollup), or to the last row in ClickHouse (sink). The windows have to equal a
recomputation from the topic, the rows in ClickHouse the events, as ever.

On a machine with a core for each, two workers do twice the work of one, less what it costs to be two:
smaller fetches, each with its fixed cost. On two cores they share them with the broker, and there is little
left to gain. So each is also measured with every worker held to the same share of a core (`SHARE`), which
leaves room for all: that shows what a second worker adds when it has a core for itself.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from bench import load, quota, stack, truth, work
from bench.contenders import product
from bench.events import Load, start_of_load
from bench.progress import say
from bench.stack import PARTITIONS, Stack
from bench.studies.restart import committed
from clients.clickhouse.connection import connect
from schemas.topics import REQUESTS, WINDOWS
from sinks.consumer import group_of
from streams.catalogue.groupings import SPACE
from streams.windows.block import BlockKey, read_block

SHARE = 0.4
COUNTS = (1, 2)
READY_WITHIN_S = 60.0
DONE_WITHIN_S = 600.0


class WrongError(RuntimeError):
    """The result of a run is not what the topic holds."""


class Course:
    """The same events for every run of a size, so that their windows are recomputed only once."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._windows: dict[int, work.Windows] = {}

    def cargo(self, events: int) -> load.Cargo:
        return load.packed(Load(events, self._start, PARTITIONS))

    def windows(self, bootstrap: str, events: int) -> work.Windows:
        """What the topic holds, recomputed from it the first time."""
        if events not in self._windows:
            recomputed = asyncio.run(truth.recompute(bootstrap, REQUESTS.name, PARTITIONS))
            self._windows[events] = recomputed[truth.SPACE]
        return self._windows[events]


def run(home: Path, events: int) -> dict[str, Any]:
    """Rollup and sink, with one and with two, with and without a quota."""
    found: dict[str, Any] = {"events": events, "share_of_a_core": SHARE}
    course = Course(start_of_load(datetime.now(UTC)))
    for kind, once in (("rollup", _rollup), ("sink", _sink)):
        figures: dict[str, Any] = {}
        for share in (None, SHARE):
            for count in COUNTS:
                name = f"{count}" if share is None else f"{count} of {share} cores"
                put = events if share is None else events // 2
                try:
                    figures[name] = once(home / f"{kind}-{name.replace(' ', '-')}", course, count, put, share)
                except quota.NoQuotaError as why:
                    say(f"workers: {kind}: {why}")
                    continue
                say(f"workers: {kind} × {name}: {figures[name]['events_per_s']:,}/s")
        _compare(figures)
        found[kind] = figures
    return found


def _compare(figures: dict[str, Any]) -> None:
    for of, one, two in (
        ("two_to_one", "1", "2"),
        ("two_to_one_held", f"1 of {SHARE} cores", f"2 of {SHARE} cores"),
    ):
        if one in figures and two in figures:
            figures[of] = round(figures[two]["events_per_s"] / figures[one]["events_per_s"], 2)
    # With a core each, a worker's rate is bound by its own CPU per event.
    worker = {count: figures[str(count)]["worker_us_per_event"] for count in COUNTS}
    figures["two_to_one_with_cores"] = round(2 * worker[1] / worker[2], 2)


def _rollup(home: Path, course: Course, count: int, events: int, share: float | None) -> dict[str, Any]:
    with stack.running(home) as running:
        cargo = course.cargo(events)
        names = [f"rollup-{i + 1}" for i in range(count)]
        for name in names:
            running.start_worker("rollup", name)
        _wait_for_members(running, "chatgauge-rollup", count)

        def finished() -> None:
            asyncio.run(_counted(running))

        figures = _timed(running, names, cargo, finished, share)
        running.wait(
            "the last acknowledgement", lambda: _acknowledged(running) == cargo.messages, READY_WITHIN_S
        )
        expected = course.windows(running.bootstrap, events)
        windows = asyncio.run(product.published(running.bootstrap, PARTITIONS, SPACE))
        if wrong := work.differences(expected, windows):
            raise WrongError("\n  ".join([f"rollup × {count} gives other windows:", *wrong]))
        return figures


def _sink(home: Path, course: Course, count: int, events: int, share: float | None) -> dict[str, Any]:
    with stack.running(home, clickhouse=True) as running:
        assert running.clickhouse is not None
        cargo = course.cargo(events)
        names = [f"sink-{i + 1}" for i in range(count)]
        for name in names:
            running.start_sink(name)
        _wait_for_members(running, group_of(REQUESTS), count)
        with connect(running.clickhouse.settings) as client:

            def rows() -> int:
                return int(client.query("SELECT count() FROM events").result_rows[0][0])

            def finished() -> None:
                running.wait(f"{cargo.messages:,} rows", lambda: rows() >= cargo.messages, DONE_WITHIN_S)

            figures = _timed(running, names, cargo, finished, share)
            expected = course.windows(running.bootstrap, events)
            wanted = (
                cargo.messages,
                cargo.messages,
                *(sum(window[figure] for window in expected.values()) for figure in range(work.SKETCH)),
            )
            held = client.query(
                "SELECT count(), uniqExact(event_id), countIf(space_id IS NOT NULL),"
                " countIf(error_type IS NOT NULL), sum(total_us), sum(prompt_tokens),"
                " sum(completion_tokens) FROM events"
            ).result_rows[0]
            if tuple(held) != wanted:
                raise WrongError(f"sink × {count}: ClickHouse has {held}, the topic {wanted}")
        return figures


def _timed(
    running: Stack, names: list[str], cargo: load.Cargo, finished: Callable[[], None], share: float | None
) -> dict[str, Any]:
    """Ship the cargo and wait until it is done; what that took."""
    pids = [pid for name in names if (pid := running.parts[name].pid)]
    with nullcontext() if share is None else quota.limited(share, pids):
        before, began = running.cpu_seconds(), time.perf_counter()
        asyncio.run(load.ship(running.bootstrap, REQUESTS.name, cargo))
        finished()
        seconds = time.perf_counter() - began
        used = stack.used(before, running.cpu_seconds())
    worked = {name: used[name] for name in names}
    servers = {name: seconds for name, seconds in used.items() if name not in worked}

    def each(cpu: float) -> float:
        return round(cpu / cargo.messages * 1e6, 2)

    return {
        "events": cargo.messages,
        "events_per_s": round(cargo.messages / seconds),
        "seconds": round(seconds, 3),
        "worker_us_per_event": each(sum(worked.values())),
        "us_per_event": {
            **{name: each(cpu) for name, cpu in servers.items()},
            "workers": each(sum(worked.values())),
        },
        "cpu_seconds_per_million": round(sum(used.values()) / cargo.messages * 1e6, 2),
        "share_of_work": [round(cpu / sum(worked.values()), 2) for cpu in worked.values()],
    }


def _acknowledged(running: Stack) -> int:
    """Blocks of one step become visible one after the other; what is acknowledged is there whole."""
    return sum(asyncio.run(committed(running.bootstrap, "rollup")).values())


async def _counted(running: Stack) -> None:
    """Returns when a minute's block of every partition counts its last event."""
    ends: dict[int, int] = {}
    consumer = AIOKafkaConsumer(
        bootstrap_servers=running.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        ends = await load.ends(running.bootstrap, REQUESTS.name, PARTITIONS)
        consumer.assign([TopicPartition(WINDOWS.name, i) for i in range(PARTITIONS)])
        left = set(range(PARTITIONS))
        async with asyncio.timeout(DONE_WITHIN_S):
            while left:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        key = BlockKey.decode(record.key)
                        if record.value is None or (key.pane, key.grouping) != ("1m", "total"):
                            continue
                        if read_block(record.value).offset >= ends[tp.partition] - 1:
                            left.discard(tp.partition)
                running.check()
    finally:
        await consumer.stop()


def _wait_for_members(running: Stack, group: str, count: int) -> None:
    """Blocks until the group's members have all partitions between them, none of them idle."""
    asyncio.run(_shared(running, group, count))


async def _shared(running: Stack, group: str, count: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=running.bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            while not await _is_shared(admin, group, count):
                running.check()
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)  # members learn of their share a moment after the group does
    finally:
        await admin.close()


async def _is_shared(admin: AIOKafkaAdminClient, group: str, count: int) -> bool:
    try:
        described = (await admin.describe_consumer_groups([group]))[0]
    except GroupCoordinatorNotAvailableError:
        return False
    _, _, state, _, _, members = described.groups[0][:6]
    return bool(state == "Stable" and len(members) == count)
