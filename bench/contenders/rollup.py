"""The product's rollup on equal work: its worker, transport, state and changelog, counting one grouping.

The plan is narrowed to the space, the minute, the five figures and the one sketch. Reading stays as it
is in production: every column is decoded and checked, repeats are told, and every request is priced.
"""

import asyncio
from dataclasses import replace

from bench.contenders import product
from bench.contenders.race import Clock, course, hand_in
from infra.settings import WindowSettings, WorkerSettings
from schemas.time import MINUTE, micros
from streams.catalogue.groupings import Grouping
from streams.counting import workers
from streams.windows.panes import Pane
from streams.windows.plan import Plan

BY_SPACE = Grouping(
    "space",
    ("space_id",),
    "spaces",
    sums=("requests", "errors", "prompt_tokens", "completion_tokens"),
    latencies=("total_us",),
)


def worker() -> workers.Worker:
    """The rollup worker with the narrowed plan."""
    windows = WindowSettings()
    minute = Pane("1m", micros(windows.keep_minutes), MINUTE)
    plan = Plan(((BY_SPACE, minute),), micros(windows.lateness))
    return replace(workers.rollup(windows, WorkerSettings()), plan=plan)


def main() -> None:
    clock = Clock()
    told = course()
    product.run(replace(worker(), name=f"rollup-{told.run}"), told, clock)
    hand_in(told, clock, asyncio.run(product.published(told.bootstrap, told.partitions, BY_SPACE)))


if __name__ == "__main__":
    main()
