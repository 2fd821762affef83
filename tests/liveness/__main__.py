"""Ends every kind of long-lived task of every part, one after the other: `make liveness`.

    python -m tests.liveness [--parts sink,api] [--each] [--only WORD]

A part has to be back in its groups and working within 60 s, and a process that ended must have said why in
the last line of its log.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra import topics
from infra.clickhouse import LocalClickHouse
from infra.kafka import LocalKafka
from infra.ports import free_port
from infra.settings import RetentionSettings
from sinks import tables
from tests.liveness.ending import Outcome, ended, long_lived, one_of_each_kind, works
from tests.liveness.feed import COMMANDS
from tests.liveness.part import WAYS
from tests.liveness.stack import PARTITIONS, Part


def outcomes(part: Part, *, each: bool, only: str = "") -> Iterator[Outcome]:
    """Of every kind of task of the running part, and of every way to end it."""
    works(part)
    found = [task for task in long_lived(part) if only in f"{task.kind} {task.name}"]
    wanted = found if each else one_of_each_kind(found)
    for one in wanted:
        for how in WAYS:
            # The process may be another by now: the same task is the one of the same kind, and name.
            same = [task for task in part.tasks() if task.kind == one.kind]
            named = [task for task in same if task.name == one.name]
            if not same:
                continue
            outcome = ended(part, (named or same)[0], how)
            if outcome is not None:
                yield outcome


def run(part: Part, *, each: bool, only: str) -> int:
    """End the tasks of one part; how many outcomes were not as they have to be."""
    failures = 0
    part.start()
    try:
        for outcome in outcomes(part, each=each, only=only):
            print(f"{part.name:10} {outcome}", flush=True)
            failures += not outcome.well
    finally:
        part.stop()
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.liveness", description=__doc__)
    parser.add_argument("--parts", default=",".join(COMMANDS), help="which parts, separated by commas")
    parser.add_argument("--each", action="store_true", help="every task, not one of each kind")
    parser.add_argument("--only", default="", help="those whose kind or name this is a part of")
    given = parser.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="chatgauge-liveness-", ignore_cleanup_errors=True) as scratch:
        home = Path(scratch)
        with (
            LocalKafka(home / "kafka", port=free_port(), heap="384m") as kafka,
            LocalClickHouse(home / "clickhouse", port=free_port()) as clickhouse,
        ):
            asyncio.run(topics.create(kafka.bootstrap, partitions=PARTITIONS))
            tables.prepare(clickhouse.settings, RetentionSettings())
            for name in given.parts.split(","):
                part = Part(name, home / name, kafka.bootstrap, clickhouse.settings)
                failures += run(part, each=given.each, only=given.only)
    print(f"{failures} not as they have to be" if failures else "every part came back", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
