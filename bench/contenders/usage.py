"""The product's usage worker as it runs in production: users, by minutes and days."""

import asyncio
from dataclasses import replace

from bench.contenders import product
from bench.contenders.race import Clock, course, hand_in
from infra.settings import WindowSettings, WorkerSettings
from schemas.topics import USAGE
from streams.catalogue.groupings import USER
from streams.counting import workers


def main() -> None:
    clock = Clock()
    told = course()
    worker = workers.usage(WindowSettings(), WorkerSettings())
    product.run(replace(worker, name=f"usage-{told.run}"), told, clock)
    windows = asyncio.run(product.published(told.bootstrap, told.partitions, USER, USAGE))
    hand_in(told, clock, windows)


if __name__ == "__main__":
    main()
