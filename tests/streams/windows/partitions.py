"""Windows of a partition for the tests, and what their steps say in short."""

from collections.abc import Sequence

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.catalogue.groupings import TOTAL
from streams.windows.block import BlockKey
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step
from tests.streams.windows.requests import NOON, Request, frame

SECONDS = Pane("1s", 15 * MINUTE, SECOND, live_only=True)
MINUTES = Pane("1m", 26 * HOUR, MINUTE, corrected_for=100 * MINUTE)
DAYS = Pane("1d", 3 * DAY)
BY_MINUTE = Plan(((TOTAL, MINUTES),), lateness=10 * SECOND)
BOTH = Plan(((TOTAL, MINUTES), (TOTAL, SECONDS)), lateness=10 * SECOND, write_every=SECOND)
MANY = 5_000
"""Events that pay for writing everything."""


def written(step: Step) -> dict[tuple[str, int, bool], tuple[int, bool]]:
    """Of each block its requests, and whether it is closed; by pane, second since noon, imported or not."""
    return {
        (block.key.pane, (block.key.pane_start - NOON) // SECOND, block.key.imported): (
            sum(block.rows["requests"].to_pylist()),
            block.closed,
        )
        for block in step.blocks
    }


def starts(keys: Sequence[BlockKey]) -> list[int]:
    """In which second since noon each pane begins."""
    return [(key.pane_start - NOON) // SECOND for key in keys]


def fresh(plan: Plan = BY_MINUTE, partition: int = 0) -> PartitionWindows:
    return PartitionWindows(partition, plan, lambda key: None)


def count(windows: PartitionWindows, requests: list[Request], now: int = NOON, through: int = -1) -> Step:
    return windows.count(frame(requests), max(through, requests[-1]["_offset"]), now)
