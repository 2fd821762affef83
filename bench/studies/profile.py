"""Where the time goes: the rollup, the usage worker and the events sink, sampled while they catch up.

py-spy looks at each process two hundred times a second. A sample counts for every Python thread that is on
a core, and belongs to the first kind of work in `KINDS` that one of its frames is part of. Starting, waiting,
and reading back the result are left out.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench import load, referee, topics, truth
from bench.entrants import BY_NAME
from bench.events import Load, start_of_load
from bench.progress import say
from bench.stack import PARTITIONS
from schemas.topics import REQUESTS

PROFILED = ("rollup_full", "usage", "sink")
RATE = 200

KINDS: Final = (
    ("looking for repeats", ("streams/windows/repeats", "streams/repeats")),
    ("pricing", ("streams/counting/pricing",)),
    ("decoding Avro, checking", ("schemas/", "streams/counting/requests")),
    ("packing blocks", ("pack_rows", "write_block", "_pack (streams/windows/state", "streams/windows/block")),
    ("adding to the state", ("streams/windows/state",)),
    ("counting into groups", ("streams/windows/", "streams/counting/agent")),
    ("announcing closed panes", ("streams/counting/announce", "announce (streams/counting/publication")),
    ("inserting into ClickHouse", ("sinks/insert", "clickhouse_connect")),
    ("making rows", ("sinks/events", "sinks/records", "sinks/writer", "sinks/windows", "/sketches")),
    (
        "sending to Kafka",
        ("aiokafka/producer", "streams/counting/publication", "faust/tables", "faust/topics"),
    ),
    ("fetching from Kafka", ("aiokafka/", "streams/transport", "sinks/consumer", "faust/transport")),
)
"""Kinds of work, by a part of a frame's name or file: the first that fits has the sample."""
REST: Final = "event loop and the rest"
_WORKING: Final = ("execute_from_commandline", "Thread._bootstrap (", "write (bench/contenders/sink")
"""A stack without one of these is starting, or reading back."""
_STARTING: Final = ("importlib._bootstrap", "warm_up (")
_WAITING: Final = ("Selector.select (", "_worker (concurrent/futures")
"""A stack that ends with one of these has nothing to do."""


def run(home: Path, bootstrap: str, events: int, interpreter: Path) -> dict[str, Any]:
    """Per process, the shares of its time."""
    asyncio.run(topics.create(bootstrap, [REQUESTS], PARTITIONS))
    asyncio.run(
        load.put(bootstrap, REQUESTS.name, Load(events, start_of_load(datetime.now(UTC)), PARTITIONS))
    )
    windows = asyncio.run(truth.recompute(bootstrap, REQUESTS.name, PARTITIONS, by=(truth.SPACE, truth.USER)))
    lane = referee.Lane(bootstrap, REQUESTS.name, PARTITIONS, windows[truth.SPACE], windows[truth.USER])
    found: dict[str, Any] = {"events": events}
    for name in PROFILED:
        asyncio.run(topics.create(bootstrap, topics.WRITTEN, PARTITIONS))
        stacks = home / f"{name}.stacks"
        spy = (str(interpreter.with_name("py-spy")), "record", "--format", "raw", "--rate", str(RATE))
        referee.run(BY_NAME[name], lane, home, under=(*spy, "--output", str(stacks), "--"))
        found[name] = shares(stacks.read_text().splitlines())
        most = max(found[name]["shares"].items(), key=lambda item: float(item[1]))
        say(f"profile: {name}: {most[1]:.0%} {most[0]}")
    return found


def shares(stacks: Iterable[str]) -> dict[str, Any]:
    """Of py-spy's raw stacks (`frame;frame;... count`) the share of each kind of work, the greatest first."""
    counts: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        if _is_work(stack):
            counts[_kind(stack)] += int(count)
    samples = sum(counts.values())
    told = {kind: round(count / samples, 3) for kind, count in counts.most_common()}
    return {"samples": samples, "shares": told}


def _is_work(stack: str) -> bool:
    working = any(frame in stack for frame in _WORKING)
    last = stack.rpartition(";")[2]
    return (
        working
        and not any(frame in stack for frame in _STARTING)
        and not any(frame in last for frame in _WAITING)
    )


def _kind(stack: str) -> str:
    return next((kind for kind, frames in KINDS if any(frame in stack for frame in frames)), REST)
