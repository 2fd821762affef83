"""The Faust applications: `rollup` counts the few-valued groupings, often; `usage` the many-valued, seldom.

Each is an application of its own: the agents of one share its consumer, its fetches and its
acknowledgements.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import faust

from clients.kafka.sizes import LARGEST_FETCH
from infra.liveness import Part
from infra.settings import KafkaSettings, RegistrySettings, WindowSettings, WorkerSettings
from schemas import topics
from schemas.registry import SchemaRegistry
from schemas.time import micros
from schemas.topics import Topic
from streams.catalogue.panes import PANES, PaneLength
from streams.counting.agent import Counting
from streams.counting.requests import RequestReader
from streams.runtime import harness
from streams.runtime.agent import Wiring
from streams.runtime.ledger import PLAIN
from streams.windows.panes import Pane
from streams.windows.plan import Plan

_TICK: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class Worker:
    """What distinguishes one application from the other."""

    name: str
    table: Topic
    plan: Plan
    linger: timedelta
    min_fetch_bytes: int


def rollup(windows: WindowSettings, worker: WorkerSettings) -> Worker:
    """Few-valued groupings, for live figures."""
    plan = _plan(topics.WINDOWS, windows, worker)
    return Worker("rollup", topics.WINDOWS, plan, worker.live_linger, 1024 * 1024)


def usage(windows: WindowSettings, worker: WorkerSettings) -> Worker:
    """Many-valued groupings: their blocks are large, so they are written seldom."""
    plan = _plan(topics.USAGE, windows, worker)
    return Worker("usage", topics.USAGE, plan, worker.usage_linger, LARGEST_FETCH // 4)


def _plan(table: Topic, windows: WindowSettings, worker: WorkerSettings) -> Plan:
    """What the catalogue has in this topic."""
    counted = [
        (grouping, _pane(length, windows))
        for length in PANES.values()
        for grouping in length.groupings
        if grouping.table is table
    ]
    return Plan(
        tuple(counted),
        micros(windows.lateness),
        write_every=micros(worker.write_interval),
        remember=worker.remember,
    )


def _pane(length: PaneLength, windows: WindowSettings) -> Pane:
    if length.calendar:
        return Pane(length.name, micros(windows.keep_days), zone=windows.timezone)
    keep = windows.keep_seconds if length.live_only else windows.keep_minutes
    return Pane(
        length.name,
        micros(keep),
        length.length,
        live_only=length.live_only,
        corrected_for=0 if length.live_only else length.longest_judged,
    )


WORKERS = {"rollup": rollup, "usage": usage}


def wired(
    worker: Worker, kafka: KafkaSettings, steps: WorkerSettings, registry: SchemaRegistry | None = None
) -> tuple[Counting, Wiring]:
    """The agent that counts for `worker`, and how it is to be run."""
    wiring = Wiring(
        worker.name,
        topics.REQUESTS,
        worker.table,
        kafka.partitions,
        worker.linger,
        min_bytes=worker.min_fetch_bytes,
        max_fetch=steps.max_fetch,
        tick_every=_TICK,
        format=PLAIN,
        own_pace=True,
    )
    reader = RequestReader(registry, kafka.max_unpacked_bytes)
    return Counting(worker.table, worker.plan, reader), wiring


def build(
    worker: Worker,
    kafka: KafkaSettings,
    steps: WorkerSettings,
    registry: SchemaRegistry | None = None,
    part: Part | None = None,
) -> faust.App:
    """The application that runs `worker`, as a unit of `part`."""
    counting, wiring = wired(worker, kafka, steps, registry)
    counting.warm_up()
    return harness.build(counting, wiring, kafka, part)


def registry_of(settings: RegistrySettings) -> SchemaRegistry | None:
    """The schema registry, if one is configured."""
    return SchemaRegistry(settings.url) if settings.url else None
