"""A part whose task ends, from inside, says why it ends, and is back in its groups and working in a minute.

One task of each kind of part; all the others by `make liveness`.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.settings import ClickHouseSettings, RetentionSettings
from sinks import tables
from tests.end_to_end.stack import wait_until
from tests.liveness.ending import BACK_WITHIN_S, ended, works
from tests.liveness.part import CANCEL, RAISE
from tests.liveness.stack import PARTITIONS, Listed, Part

FETCHING = "Fetcher._fetch_requests_routine"

pytestmark = pytest.mark.timeout(400)


WORKERS = ("rollup", "usage", "alerts", "deliveries")


def the(part: Part, kind: str) -> Listed:
    """A task of this kind, once there is one; of a worker, one of what takes its partitions.

    What a worker follows beside them it follows anew when a task of it has ended.
    """
    found: list[Listed] = []

    def is_there() -> bool:
        in_main_loop = part.name not in WORKERS
        found[:] = [task for task in part.tasks() if kind in task.kind and task.in_main_loop == in_main_loop]
        return bool(found)

    wait_until(f"{part.name} has a task {kind}", is_there, 60)
    return found[0]


@pytest.mark.parametrize(
    ("name", "kind", "how", "reason"),
    [
        ("sink", FETCHING, CANCEL, "the fetching task of Kafka's client"),
        ("sink", "Sink._report", RAISE, " lag failed: DeliberateError"),
        ("api", "Follower.run", CANCEL, " was cancelled"),
        ("rollup", FETCHING, CANCEL, "the fetching task of Kafka's client"),
        ("alerts", FETCHING, RAISE, "the fetching task of Kafka's client"),
        ("deliveries", FETCHING, CANCEL, "the fetching task of Kafka's client"),
    ],
)
def test_a_part_whose_task_has_ended_is_back_and_working(
    name: str,
    kind: str,
    how: str,
    reason: str,
    fresh_kafka: str,
    database: ClickHouseSettings,
    create_topics: Callable[..., None],
    tmp_path: Path,
) -> None:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    tables.prepare(database, RetentionSettings())
    part = Part(name, tmp_path, fresh_kafka, database)
    part.start()
    try:
        works(part)
        deadline, outcome = time.monotonic() + 60, None
        while outcome is None and time.monotonic() < deadline:
            outcome = ended(part, the(part, kind), how)
    finally:
        part.stop()

    assert outcome is not None
    assert outcome.said is not None, "the part went on without the task"
    assert outcome.gives_reason, outcome.said
    assert reason in outcome.said
    assert outcome.back_after_s <= BACK_WITHIN_S
