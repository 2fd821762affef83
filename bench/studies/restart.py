"""How long a worker takes, with a full day of minute panes behind it, to go on counting.

From starting its process to the first fetch that it has acknowledged: Python, Faust, joining the group,
reading the state back, and counting what waits. Told to stop and started again, as at a deployment; and
started again at once after SIGKILL, when Kafka first has to miss the dead one.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from bench import day as days
from bench import load, stack
from bench.events import Load
from bench.progress import say
from bench.stack import PARTITIONS, Stack
from schemas.topics import REQUESTS

RECENT = timedelta(minutes=6)
"""As much of the topic as a worker that looks for repeats may have to read again."""
FRESH = 4_000
PATIENCE_S = 300.0


def run(home: Path, day: days.Day, minutes: int = days.MINUTES) -> dict[str, Any]:
    """Both workers, each with its own state; the figures. `minutes` of the day are there."""
    with stack.running(home) as running:
        began = time.monotonic()
        written = days.write(running.bootstrap, day, datetime.now(UTC), minutes=minutes)
        say(f"restart: a day of state written in {time.monotonic() - began:.0f} s")
        recent = Load(
            day.rate * int(RECENT.total_seconds()),
            datetime.now(UTC) - RECENT,
            PARTITIONS,
            span=RECENT,
            users=day.users,
            spaces=day.spaces,
        )
        asyncio.run(load.append(running.bootstrap, REQUESTS.name, recent))
        found: dict[str, Any] = {
            "rate": day.rate,
            "users": day.users,
            "spaces": day.spaces,
            "minutes": minutes,
        }
        for kind in ("rollup", "usage"):
            first, _ = _until_acknowledged(running, kind, fresh=False)
            running.stop(kind)
            stopped, used = _until_acknowledged(running, kind)
            rss = running.rss_mb()[kind]
            running.stop(kind, hard=True)
            killed, _ = _until_acknowledged(running, kind)
            running.stop(kind)
            found[kind] = {
                "blocks": written[kind].blocks,
                "state_mb": round(written[kind].mb, 1),
                "seconds": round(stopped, 2),
                "cpu_seconds": round(used, 2),
                "after_kill_seconds": round(killed, 2),
                "first_start_seconds": round(first, 2),
                "rss_mb": round(rss, 1),
            }
            say(
                f"restart: {kind}, {written[kind].blocks:,} blocks: {stopped:.1f} s, "
                f"after SIGKILL {killed:.1f} s"
            )
    return found


def _until_acknowledged(running: Stack, kind: str, *, fresh: bool = True) -> tuple[float, float]:
    """Start the worker; seconds until it has committed in every partition, and those of CPU that it used."""
    if fresh:
        few = Load(
            FRESH, datetime.now(UTC), PARTITIONS, seed=time.monotonic_ns() % 60_000, span=timedelta(seconds=2)
        )
        asyncio.run(load.append(running.bootstrap, REQUESTS.name, few))
    before = asyncio.run(committed(running.bootstrap, kind))
    began = time.monotonic()
    running.start_worker(kind)
    asyncio.run(_moved(running, kind, before))
    return time.monotonic() - began, running.cpu_seconds()[kind]


async def _moved(running: Stack, kind: str, before: dict[int, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=running.bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                now = await _offsets(admin, kind)
                if all(now.get(p, 0) > before.get(p, 0) for p in range(PARTITIONS)):
                    return
                running.check()
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def committed(bootstrap: str, kind: str) -> dict[int, int]:
    """How far a worker has acknowledged, by partition."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await _offsets(admin, kind)
    finally:
        await admin.close()


async def _offsets(admin: AIOKafkaAdminClient, kind: str) -> dict[int, int]:
    try:
        offsets = await admin.list_consumer_group_offsets(f"chatgauge-{kind}")
    except GroupCoordinatorNotAvailableError:  # no group has ever been there
        return {}
    return {tp.partition: held.offset for tp, held in offsets.items() if tp.topic == REQUESTS.name}
