"""`python -m bench`: the product beside its peers; see bench/README.md."""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench import load, machine, peers, referee, report, topics, truth
from bench.contenders.race import Result
from bench.entrants import BY_NAME, ENTRANTS, Entrant
from bench.events import SPAN, Load, start_of_load
from infra.errors import LocalServerError
from infra.kafka import LocalKafka
from infra.ports import free_port
from schemas.topics import REQUESTS, Topic

PARTITIONS = 4
MINUTE = timedelta(minutes=1)
RESULTS = Path(__file__).parent / "results" / "latest.json"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="size of the load")
    parser.add_argument("--short", type=int, default=30_000, help="size of naive Faust's load")
    parser.add_argument("--minutes", type=float, default=SPAN / MINUTE, help="event time that it spans")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender, in turn")
    parser.add_argument("--only", help=f"of {','.join(BY_NAME)}, those to run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures go")
    return parser.parse_args()


def entrants(only: str | None) -> list[Entrant]:
    if only is None:
        return list(ENTRANTS)
    names = only.split(",")
    if unknown := [name for name in names if name not in BY_NAME]:
        raise SystemExit(f"bench: no contender is called {unknown[0]}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in names]


async def fill(bootstrap: str, topic: Topic, events: int, span: timedelta) -> tuple[referee.Lane, float]:
    """Put a load onto a topic and recompute its windows; also the mean size of a value."""
    say(f"{topic.name}: {events:,} events")
    await topics.create(bootstrap, [topic], PARTITIONS)
    put = Load(events, start_of_load(datetime.now(UTC), span), PARTITIONS, span=span)
    value_bytes = await load.put(bootstrap, topic.name, put)
    lane = referee.Lane(
        bootstrap,
        topic.name,
        PARTITIONS,
        (await truth.recompute(bootstrap, topic.name, PARTITIONS))[truth.SPACE],
    )
    if lane.events != events:
        raise SystemExit(f"bench: {events} events were put onto {topic.name}, {lane.events} were found")
    return lane, value_bytes


def race(told: argparse.Namespace, kafka: LocalKafka, scratch: Path) -> int:
    """All rounds; returns the exit status."""
    running = entrants(told.only)
    interpreter = peers.python() if any(entrant.peer for entrant in running) else None
    span = told.minutes * MINUTE
    kafka.start()
    whole, value_bytes = asyncio.run(fill(kafka.bootstrap, REQUESTS, told.events, span))
    short = whole
    if any(entrant.short for entrant in running) and told.short < told.events:
        short, _ = asyncio.run(fill(kafka.bootstrap, topics.SHORT, told.short, span))
    runs: defaultdict[str, list[Result]] = defaultdict(list)
    failed = False
    for turn in range(told.rounds):
        for entrant in running:
            asyncio.run(topics.create(kafka.bootstrap, topics.WRITTEN, PARTITIONS))
            try:
                result = referee.run(
                    entrant,
                    short if entrant.short else whole,
                    scratch,
                    interpreter if entrant.peer else None,
                )
            except referee.DisqualifiedError as why:
                failed = True
                say(f"round {turn + 1}: {why}")
                continue
            runs[entrant.name].append(result)
            say(f"round {turn + 1}: {entrant.name} {result.events / result.seconds:,.0f}/s")
    rows = [report.Row(entrant, runs[entrant.name]) for entrant in running if runs[entrant.name]]
    facts = machine.facts(interpreter)
    loaded = {
        "events": told.events,
        "event_minutes": told.minutes,
        "partitions": PARTITIONS,
        "value_bytes": round(value_bytes, 1),
    }
    if rows:
        report.show(rows, facts, loaded)
        report.write(rows, facts, loaded, told.results)
    return 1 if failed else 0


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    told = options()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing stays behind
    with tempfile.TemporaryDirectory(prefix="chatgauge-bench-") as scratch:
        kafka = LocalKafka(Path(scratch) / "kafka", port=free_port(), heap="1g", partitions=PARTITIONS)
        try:
            return race(told, kafka, Path(scratch))
        except LocalServerError as problem:
            raise SystemExit(f"bench: {problem}") from problem
        finally:
            kafka.stop()


if __name__ == "__main__":
    sys.exit(main())
