"""The product's rollup as it runs in production: all groupings, panes and sketches, written and published."""

import asyncio
from dataclasses import replace

from bench.contenders import product
from bench.contenders.race import Clock, course, hand_in
from infra.settings import WindowSettings, WorkerSettings
from streams.catalogue.groupings import SPACE
from streams.counting import workers


def main() -> None:
    clock = Clock()
    told = course()
    worker = workers.rollup(WindowSettings(), WorkerSettings())
    product.run(replace(worker, name=f"rollup-{told.run}"), told, clock)
    hand_in(told, clock, asyncio.run(product.published(told.bootstrap, told.partitions, SPACE)))


if __name__ == "__main__":
    main()
