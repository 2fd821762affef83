"""The whole product on live traffic, at several rates: how late figures are, what the changelog costs.

Both workers, the sinks, ClickHouse and Kafka run as they are installed, with today's panes as large as
they are at the end of a day. At each rate, over a minute and more:

- latency, from the time at which a service makes an event: to the block of its second on `chat.windows`
  that counts it; to the block of its minute there, and on `chat.usage`; to its row in ClickHouse; and
  from the end of a minute to its closed rows in ClickHouse. One clock, the machine's; a reader sees a
  block when it has fetched it, a row when a query finds it (asked four times a second).
- changelog: bytes of keys and values of the blocks, by table, pane and grouping, per event.
- CPU of each part, per event.

Then all that was sent has to be in the windows and in ClickHouse, and nothing else.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench import day as days
from bench import load, stack
from bench.contenders import product
from bench.peers import ROOT
from bench.progress import say
from bench.rows import RowWatch
from bench.stack import PARTITIONS, Stack
from clients.clickhouse.connection import connect
from infra.process import Child
from schemas.topics import REQUESTS
from streams.catalogue.groupings import SPACE

RATES = (100, 1_000, 20_000)
WARM_UP_S = 10.0
MEASURED_S = 60.0
GOING_ON_S = 5.0
"""Traffic goes on for so long, so that what was made last is seen as everything before it."""
AFTER_MINUTE_S = 15.0
"""So long after its end a minute has closed and is in ClickHouse, when all is well."""
SETTLED_WITHIN_S = 60.0
SECOND_US, MINUTE_US = 1_000_000, 60_000_000


class WrongError(RuntimeError):
    """What was sent is not what was counted."""


@dataclass(frozen=True)
class Phase:
    """One rate: when it was measured, and what was seen."""

    rate: int
    began_us: int
    ended_us: int
    """What is measured lies between; warming up and settling do not."""
    sent: int
    behind_ms: float
    cpu_seconds: Mapping[str, float]
    events: pl.DataFrame
    """`partition`, `offset`, `time` of those made in that time."""


def run(home: Path, rates: tuple[int, ...] = RATES, users: int = 10_000, spaces: int = 100) -> dict[str, Any]:
    """All rates, one after the other, on the same parts."""
    with stack.running(home, clickhouse=True) as running:
        assert running.clickhouse is not None
        state = days.Day(1_000, users, spaces, PARTITIONS)
        days.write(running.bootstrap, state, datetime.now(UTC), minutes=0)
        blocks = _start(running, "watcher", ["--out", str(home / "blocks.arrow")])
        for kind in ("rollup", "usage"):
            running.start_worker(kind)
        running.start_sink()
        rows = RowWatch(running.clickhouse.settings)
        with rows:
            phases = [_phase(running, number, rate, users, spaces) for number, rate in enumerate(rates, 1)]
            sent = sum(phase.sent for phase in phases)
            _settle(running, sent, rows)
        running.stop("watcher")
        _wait_for_end(blocks)
        check(running, sent)
    seen = pl.read_ipc(home / "blocks.arrow")
    found: dict[str, Any] = {"latency": {}, "changelog": {}, "cpu": {}}
    for phase in phases:
        found["latency"][str(phase.rate)] = latency(phase, seen, rows)
        found["changelog"][str(phase.rate)] = changelog(phase, seen)
        found["cpu"][str(phase.rate)] = cpu(phase)
    return found


def _start(running: Stack, module: str, options: list[str]) -> Child:
    command = [sys.executable, "-m", f"bench.{module}", "--bootstrap", running.bootstrap, *options]
    child = Child(module, command, running.home / f"{module}.log", {"PYTHONPATH": str(ROOT)})
    child.start()
    running.parts[module] = child
    return child


def _wait_for_end(child: Child) -> None:
    if child.returncode != 0:
        raise WrongError(f"{child.name} ended with status {child.returncode}; it said:\n{child.tail()}")


def _phase(running: Stack, number: int, rate: int, users: int, spaces: int) -> Phase:
    say(f"live: {rate:,} events a second")
    log = running.home / f"sent-{rate}.npz"
    command = [
        *(sys.executable, "-m", "bench.feeder", "--bootstrap", running.bootstrap, "--rate", str(rate)),
        *("--partitions", str(PARTITIONS), "--users", str(users), "--spaces", str(spaces)),
        *("--run", str(number), "--log", str(log)),
    ]
    feeder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert feeder.stdout is not None
        feeder.stdout.readline()
        if number == 1:
            _first_row(running)
        time.sleep(WARM_UP_S)
        began_us, used = time.time_ns() // 1000, running.cpu_seconds()
        time.sleep(MEASURED_S)
        ended_us, used_then = time.time_ns() // 1000, running.cpu_seconds()
        ended_minute = (began_us // MINUTE_US + 1) * MINUTE_US
        time.sleep(max(GOING_ON_S, ended_minute / 1e6 + AFTER_MINUTE_S - time.time()))
        running.check()
        feeder.send_signal(signal.SIGTERM)
        told = json.loads(feeder.communicate(timeout=30)[0].splitlines()[-1])
    finally:
        feeder.kill()
        feeder.wait()
    with np.load(log) as kept:
        events = pl.DataFrame({name: kept[name] for name in ("partition", "offset", "time")})
    return Phase(
        rate,
        began_us,
        ended_us,
        told["sent"],
        told["behind_ms"],
        stack.used(used, used_then),
        events.filter(pl.col("time").is_between(began_us, ended_us)),
    )


def _first_row(running: Stack) -> None:
    """Waits until every part works."""
    assert running.clickhouse is not None
    with connect(running.clickhouse.settings) as client:

        def there() -> bool:
            both = "SELECT count() > 0 FROM {} WHERE partition >= 0"
            raw = client.query("SELECT count() > 0 FROM events").result_rows[0][0]
            users = client.query(both.format("windows") + " AND grouping = 'user'").result_rows[0][0]
            total = client.query(both.format("windows") + " AND grouping = 'total'").result_rows[0][0]
            return bool(raw and users and total)

        running.wait("the first rows in ClickHouse", there, SETTLED_WITHIN_S, 0.5)


def _settle(running: Stack, sent: int, rows: RowWatch) -> None:
    """Waits until all that was sent is in ClickHouse: its rows, and what counts it."""
    assert running.clickhouse is not None
    with connect(running.clickhouse.settings) as client:

        def arrived() -> bool:
            return bool(client.query("SELECT count() FROM events").result_rows[0][0] >= sent)

        running.wait(f"{sent:,} rows in ClickHouse", arrived, SETTLED_WITHIN_S, 0.5)
    ends = asyncio.run(load.ends(running.bootstrap, REQUESTS.name, PARTITIONS))
    running.wait("the last minutes in ClickHouse", lambda: rows.reached(ends), SETTLED_WITHIN_S, 0.5)


def check(running: Stack, sent: int) -> None:
    """Everything that was sent was counted once. Raises WrongError."""
    assert running.clickhouse is not None
    held = asyncio.run(load.length(running.bootstrap, REQUESTS.name, PARTITIONS))
    with connect(running.clickhouse.settings) as client:
        rows, ids = client.query("SELECT count(), uniqExact(event_id) FROM events").result_rows[0]
    windows = asyncio.run(product.published(running.bootstrap, PARTITIONS, SPACE))
    counted = sum(window[0] for window in windows.values())
    if not sent == held == rows == ids == counted:
        raise WrongError(
            f"{sent} events were sent; the topic holds {held}, ClickHouse {rows} rows with {ids} ids, "
            f"and the windows count {counted}"
        )


def latency(phase: Phase, blocks: pl.DataFrame, rows: RowWatch) -> dict[str, Any]:
    """Quantiles in milliseconds, by where an event has come to."""
    total = blocks.filter(grouping="total", table="chat.windows")
    users = blocks.filter(grouping="user", pane="1m")
    reached: dict[str, tuple[pl.DataFrame, int | None]] = {
        "chat.windows": (total.filter(pane="1s"), SECOND_US),
        "chat.windows minutes": (total.filter(pane="1m"), MINUTE_US),
        "chat.usage minutes": (users, MINUTE_US),
        "clickhouse events": (rows.events(), None),
        "clickhouse open minutes": (rows.open_minutes(), MINUTE_US),
    }
    found: dict[str, Any] = {"events": phase.events.height, "sender_behind_ms": round(phase.behind_ms, 1)}
    for name, (seen, pane_us) in reached.items():
        try:
            found[name] = _quantiles(_seen(phase.events, seen, pane_us))
        except WrongError as why:
            raise WrongError(f"{name} at {phase.rate:,}/s: {why}") from why
    found["clickhouse closed minute"] = _minutes_delay(phase, rows.closed_minutes())
    return found


def _seen(events: pl.DataFrame, reached: pl.DataFrame, pane_us: int | None) -> pl.Series:
    """Per event how long, in microseconds, until something that counts it was seen.

    `reached`: partition, offset, read_at and, with `pane_us`, pane_start. Offsets only rise: the first row
    of the same pane that has come to the event's offset, or further, counts it.
    """
    by = ["partition"]
    events = events.select(pl.col("partition").cast(pl.Int32), "offset", "time")
    if pane_us is not None:
        by.append("pane_start")
        events = events.with_columns(pane_start=pl.col("time") // pane_us * pane_us)
    first = reached.drop_nulls("offset").group_by([*by, "offset"]).agg(pl.col("read_at").min()).sort("offset")
    joined = events.sort("offset").join_asof(
        first, on="offset", by=by, strategy="forward", check_sortedness=False
    )
    if missing := joined["read_at"].null_count():
        raise WrongError(f"{missing} of {events.height} events were not seen")
    return joined["read_at"] - joined["time"]


def _quantiles(took_us: pl.Series) -> dict[str, float]:
    told = {f"p{q}": took_us.quantile(q / 100, "nearest") for q in (50, 95, 99)} | {"max": took_us.max()}
    return {name: round(float(value) / 1000, 1) for name, value in told.items()}  # type: ignore[arg-type]


def _minutes_delay(phase: Phase, closed: pl.DataFrame) -> dict[str, float] | None:
    """How long after a minute's end its closed rows were there, of all partitions."""
    ends = closed.filter((pl.col("pane_start") + MINUTE_US).is_between(phase.began_us, phase.ended_us))
    if ends.is_empty():
        return None
    whole = ends.group_by("pane_start").agg(pl.col("read_at").max(), pl.len()).filter(len=PARTITIONS)
    delays = whole.select((pl.col("read_at") - pl.col("pane_start") - MINUTE_US) / 1000).to_series()
    return {"max": round(float(delays.max()), 1), "minutes": whole.height}  # type: ignore[arg-type]


def changelog(phase: Phase, blocks: pl.DataFrame) -> dict[str, Any]:
    """Bytes and blocks per event, in all and by table, pane and grouping."""
    during = blocks.filter(pl.col("read_at").is_between(phase.began_us, phase.ended_us))
    events = phase.events.height
    parts = during.group_by("table", "pane", "grouping").agg(pl.col("bytes").sum(), pl.len()).sort("bytes")
    by = {
        f"{table} {pane} {grouping}": round(size / events, 3)
        for table, pane, grouping, size, _ in parts.reverse().iter_rows()
    }
    seconds = (phase.ended_us - phase.began_us) / 1e6
    return {
        "bytes_per_event": round(int(during["bytes"].sum()) / events, 2),
        "mb_per_minute": round(int(during["bytes"].sum()) / 2**20 / seconds * 60, 2),
        "blocks_per_s": round(during.height / seconds, 1),
        "by": by,
    }


def cpu(phase: Phase) -> dict[str, Any]:
    """Of one core, and per event, by part."""
    seconds = (phase.ended_us - phase.began_us) / 1e6
    return {
        name: {
            "cores": round(used / seconds, 3),
            "us_per_event": round(used / phase.events.height * 1e6, 2),
        }
        for name, used in phase.cpu_seconds.items()
        if name != "watcher"
    }
