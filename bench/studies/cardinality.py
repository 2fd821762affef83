"""Throughput by the number of users and of spaces, all of them active: each is as likely as the next.

One topic for each size. The usage worker counts users and does not look at spaces; the rollup counts
spaces and does not look at users; so both are measured on the same topics. Bytewax does the equal work
of `bench/work.py` by space, on a shorter load of the same density.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import load, referee, topics, truth
from bench.contenders.race import Result
from bench.entrants import BY_NAME, Entrant
from bench.events import SPAN, Load, start_of_load
from bench.progress import say
from bench.stack import PARTITIONS
from schemas.topics import REQUESTS, Topic

SIZES = ((1_000, 100), (10_000, 1_000), (100_000, 10_000))
"""Users and spaces."""
SHORTER = 4
"""The peers' load: a part of the others', in events and in minutes."""


def run(home: Path, bootstrap: str, events: int, peer: Path | None) -> dict[str, Any]:
    """`users`: the usage worker's figures; `spaces`: the rollup's, and a peer's where there is one."""
    found: dict[str, Any] = {"events": events, "users": {}, "spaces": {}}
    for users, spaces in SIZES:
        whole = _lane(
            bootstrap, REQUESTS, Load(events, start_of_load(_now(), SPAN), PARTITIONS, **_of(users, spaces))
        )
        by_space = found["spaces"][str(spaces)] = {}
        found["users"][str(users)] = {"usage": _run("usage", whole, home)}
        for name in ("rollup_full", "rollup"):
            by_space[name] = _run(name, whole, home)
        if peer is not None:
            span = SPAN / SHORTER
            shorter = Load(
                events // SHORTER, start_of_load(_now(), span), PARTITIONS, span=span, **_of(users, spaces)
            )
            by_space["bytewax"] = _run("bytewax", _lane(bootstrap, topics.SHORT, shorter), home, peer)
        usage = found["users"][str(users)]["usage"]["events_per_s"]
        told = ", ".join(f"{name} {figures['events_per_s']:,}/s" for name, figures in by_space.items())
        say(f"cardinality: {users:,} users: usage {usage:,}/s; {spaces:,} spaces: {told}")
    return found


def _now() -> datetime:
    return datetime.now(UTC)


def _of(users: int, spaces: int) -> dict[str, Any]:
    return {"users": users, "spaces": spaces, "even": True}


def _lane(bootstrap: str, topic: Topic, put: Load) -> referee.Lane:
    asyncio.run(topics.create(bootstrap, [topic], PARTITIONS))
    asyncio.run(load.put(bootstrap, topic.name, put))
    windows = asyncio.run(truth.recompute(bootstrap, topic.name, PARTITIONS, by=(truth.SPACE, truth.USER)))
    return referee.Lane(bootstrap, topic.name, PARTITIONS, windows[truth.SPACE], windows[truth.USER])


def _run(name: str, lane: referee.Lane, home: Path, interpreter: Path | None = None) -> dict[str, Any]:
    asyncio.run(topics.create(lane.bootstrap, topics.WRITTEN, PARTITIONS))
    entrant: Entrant = BY_NAME[name]
    result: Result = referee.run(entrant, lane, home, interpreter)
    return {
        "events_per_s": round(result.events / result.seconds),
        "cpu_us_per_event": round(result.cpu_seconds / result.events * 1e6, 2),
        "rss_mb": round(result.rss_mb, 1),
        "windows": result.windows,
    }
