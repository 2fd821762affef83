"""`python -m bench`: the product beside its peers, and how its cost grows; see bench/README.md."""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from bench import day, figures, load, machine, peers, referee, report, topics, truth
from bench.contenders.race import Result
from bench.entrants import ENTRANTS, Entrant
from bench.events import SPAN, Load, start_of_load
from bench.progress import say
from bench.stack import HEAP, PARTITIONS, NotInTimeError
from bench.studies import alerting, cardinality, live, profile, restart, workers
from infra.errors import LocalServerError
from infra.kafka import LocalKafka
from infra.ports import free_port
from schemas.topics import REQUESTS, Topic

MINUTE = timedelta(minutes=1)
RACE = {entrant.name: entrant for entrant in ENTRANTS}
STUDIES = ("workers", "cardinality", "restart", "live", "alerting", "profile")
ALIASES = {"latency": "live", "changelog": "live", "cpu": "live"}
PARTS = ("race", *STUDIES)


class WrongError(RuntimeError):
    """Something failed, or came to a wrong result; the message is for a person."""


@dataclass(frozen=True)
class Run:
    """What is to be done, and with what."""

    told: argparse.Namespace
    entrants: list[Entrant]
    studies: list[str]
    scratch: Path
    interpreter: Path | None
    """The peers', where it is needed."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the load")
    parser.add_argument("--short", type=int, default=30_000, help="size of naive Faust's load")
    parser.add_argument("--minutes", type=float, default=SPAN / MINUTE, help="event time that it spans")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each contender, in turn")
    names = ",".join((*PARTS, *ALIASES, *RACE))
    parser.add_argument("--only", help=f"of {names}, those to run")
    parser.add_argument(
        "--before", type=Path, help="a checkout of another version, installed: its contenders race as well"
    )
    parser.add_argument("--results", type=Path, default=figures.RESULTS, help="where the figures go")
    return parser.parse_args()


def chosen(only: str | None) -> tuple[list[Entrant], list[str]]:
    """The contenders and the studies to run. Raises SystemExit for a name that nothing has."""
    if only is None:
        return list(ENTRANTS), list(STUDIES)
    names = [ALIASES.get(name, name) for name in only.split(",")]
    if unknown := [name for name in names if name not in PARTS and name not in RACE]:
        known = ", ".join((*PARTS, *ALIASES, *RACE))
        raise SystemExit(f"bench: nothing is called {unknown[0]}; there are {known}")
    running = [entrant for entrant in ENTRANTS if "race" in names or entrant.name in names]
    return running, [name for name in STUDIES if name in names]


async def fill(bootstrap: str, topic: Topic, events: int, span: timedelta) -> tuple[referee.Lane, float]:
    """Put a load onto a topic and recompute its windows; also the mean size of a value."""
    say(f"{topic.name}: {events:,} events")
    await topics.create(bootstrap, [topic], PARTITIONS)
    put = Load(events, start_of_load(datetime.now(UTC), span), PARTITIONS, span=span)
    value_bytes = await load.put(bootstrap, topic.name, put)
    windows = (await truth.recompute(bootstrap, topic.name, PARTITIONS))[truth.SPACE]
    lane = referee.Lane(bootstrap, topic.name, PARTITIONS, windows)
    if lane.events != events:
        raise SystemExit(f"bench: {events} events were put onto {topic.name}, {lane.events} were found")
    return lane, value_bytes


def race(run: Run, kafka: LocalKafka) -> bool:
    """All rounds; whether all went well."""
    told = run.told
    span = told.minutes * MINUTE
    whole, value_bytes = asyncio.run(fill(kafka.bootstrap, REQUESTS, told.events, span))
    short = whole
    if any(entrant.short for entrant in run.entrants) and told.short < told.events:
        short, _ = asyncio.run(fill(kafka.bootstrap, topics.SHORT, told.short, span))
    runs: defaultdict[str, list[Result]] = defaultdict(list)
    failed = False
    for turn in range(told.rounds):
        for entrant in run.entrants:
            asyncio.run(topics.create(kafka.bootstrap, topics.WRITTEN, PARTITIONS))
            try:
                result = referee.run(
                    entrant,
                    short if entrant.short else whole,
                    run.scratch,
                    run.interpreter if entrant.peer else None,
                )
            except referee.DisqualifiedError as why:
                failed = True
                say(f"round {turn + 1}: {why}")
                continue
            runs[entrant.name].append(result)
            say(f"round {turn + 1}: {entrant.name} {result.events / result.seconds:,.0f}/s")
    rows = [report.Row(entrant, runs[entrant.name]) for entrant in run.entrants if runs[entrant.name]]
    loaded = {
        "events": told.events,
        "event_minutes": told.minutes,
        "partitions": PARTITIONS,
        "value_bytes": round(value_bytes, 1),
    }
    if rows:
        found = report.figures(rows, machine.facts(run.interpreter), loaded)
        report.show(found)
        figures.write(told.results, figures.with_race(figures.read(told.results), found))
    return not failed


def study(run: Run, name: str) -> bool:
    """One study; whether it went well."""
    home = run.scratch / name
    size = run.told.events
    todo: dict[str, Callable[[], dict[str, Any]]] = {
        "workers": partial(workers.run, home, size * 6 // 10),
        "cardinality": partial(
            _with_kafka, home, partial(cardinality.run, events=size // 2, peer=run.interpreter)
        ),
        "restart": partial(restart.run, home, day.Day(1_000, 10_000, 100, PARTITIONS)),
        "live": partial(live.run, home),
        "alerting": partial(alerting.run, home),
        "profile": partial(
            _with_kafka,
            home,
            partial(profile.run, events=size // 2, interpreter=run.interpreter or peers.python()),
        ),
    }
    try:
        found = todo[name]()
    except (referee.DisqualifiedError, NotInTimeError, workers.WrongError, live.WrongError) as why:
        say(f"{name}: {why}")
        return False
    held = figures.read(run.told.results)
    facts = machine.facts(None)
    for key, part in found.items() if name == "live" else [(name, found)]:
        held = figures.with_study(held, key, part, facts)
    figures.write(run.told.results, held)
    return True


def _with_kafka(home: Path, then: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    home.mkdir(parents=True, exist_ok=True)
    with LocalKafka(home / "kafka", port=free_port(), heap=HEAP, partitions=PARTITIONS) as kafka:
        return then(home=home, bootstrap=kafka.bootstrap)


def tell(run: Run) -> None:
    """The report beside the figures, and the pictures."""
    file: Path = run.told.results
    report.write(figures.read(file), file.with_suffix(".md"))
    interpreter = run.interpreter or peers.python()
    subprocess.run([str(interpreter), "-m", "bench.pictures", str(file)], cwd=peers.ROOT, check=True)
    say(f"figures and pictures are in {file.parent}")


def main() -> int:
    told = options()
    running, studies = chosen(told.only)
    if told.before:
        mine = [entrant for entrant in running if not entrant.peer and entrant.name != "faust_naive"]
        running += [entrant.before(told.before.resolve()) for entrant in mine]
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing stays behind
    wanting = any(entrant.peer for entrant in running) or {"cardinality", "profile"} & set(studies)
    well = True
    with tempfile.TemporaryDirectory(prefix="chatgauge-bench-") as scratch:
        run = Run(told, running, studies, Path(scratch), peers.python() if wanting else None)
        try:
            if running:
                kafka = LocalKafka(
                    Path(scratch) / "kafka", port=free_port(), heap=HEAP, partitions=PARTITIONS
                )
                with kafka:
                    well = race(run, kafka)
            for name in studies:
                say(name)
                well = study(run, name) and well
        except LocalServerError as problem:
            raise SystemExit(f"bench: {problem}") from problem
        tell(run)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
