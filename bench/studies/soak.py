"""`make soak`: the memory of every part under a steady live load, at half of what the machine can take.

All parts run as installed. The top rate is found first, unless a rate is given: a load that waits on the
topic is worked off by both workers and the sinks at once. Then events come at half of that rate, and memory
is sampled to the end: it has to stay within `FLAT` of where it was after warming up; the topic must not pile
up, and every event has to be counted. The topic keeps little, so that the disk doesn't fill; ClickHouse
keeps everything.
"""

import asyncio
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bench import load, stack
from bench.contenders import product
from bench.events import Load
from bench.peers import ROOT
from bench.progress import say
from bench.stack import PARTITIONS, Stack
from bench.studies.live import WrongError
from bench.studies.restart import committed
from clients.clickhouse.connection import connect
from schemas.topics import REQUESTS
from streams.catalogue.groupings import SPACE

FLAT: Final = 0.10
EVERY_S: Final = 5.0
LEAST_MINUTES: Final = 20.0
"""Below that there is no verdict: what the parts remember by design, six minutes of ids, still grows."""
WARM_UP: Final = 1 / 3
"""Of the run; at most ten minutes."""
AT_END: Final = 1 / 6
PROBE: Final = 1_200_000
USERS, SPACES = 10_000, 100
KEPT = {"retention.bytes": str(512 * 2**20), "segment.bytes": str(64 * 2**20), "retention.ms": "600000"}
_ROW_BYTES = 200
"""Of an event in ClickHouse, generously: parts that are being merged lie there twice."""
_CAUGHT_UP_WITHIN_S = 180.0


def run(home: Path, minutes: float, rate: int | None) -> dict[str, Any]:
    """The figures, with the samples for a picture."""
    with stack.running(home, clickhouse=True, retention=KEPT) as running:
        for kind in ("rollup", "usage"):
            running.start_worker(kind)
        running.start_sink()
        top, waiting = (None, 0) if rate else (_top_rate(running), PROBE)
        steady = rate or max(1_000, (top or 0) // 2 // 1000 * 1000)
        found_out = f"all parts together take {top:,}/s; " if top else ""
        say(f"soak: {found_out}{minutes:g} minutes at {steady:,}/s")
        _require_space(home, steady * minutes * 60)
        samples, sent = _steady(running, minutes, steady, waiting)
        _check(running, waiting + sent)
    memory = {part: _flatness(samples, part) for part in samples[0]["rss_mb"]}
    return {
        "minutes": minutes,
        "rate": steady,
        "top_rate": top,
        "events": sent,
        "long_enough": minutes >= LEAST_MINUTES,
        "memory": memory,
        "samples": _thinned(samples),
    }


def flat(found: Mapping[str, Any]) -> bool:
    """Whether every part stayed within `FLAT`; a short run has no verdict and passes."""
    return not found["long_enough"] or all(abs(m["change"]) <= FLAT for m in found["memory"].values())


def verdict(found: Mapping[str, Any]) -> str:
    """The line that it ends with."""
    parts = ", ".join(
        f"{part} {m['from_mb']:,.0f} → {m['to_mb']:,.0f} MB ({m['change']:+.1%})"
        for part, m in found["memory"].items()
    )
    if not found["long_enough"]:
        judged = f" (too short to judge: {LEAST_MINUTES:g} min at least)"
    else:
        judged = f": flat within {FLAT:.0%}" if flat(found) else f": NOT flat within {FLAT:.0%}"
    return f"soak {found['minutes']:g} min at {found['rate']:,}/s: {parts}{judged}"


def _top_rate(running: Stack) -> int:
    """Events a second that all parts together work off."""
    span = timedelta(minutes=4)
    put = Load(PROBE, datetime.now(UTC) - span, PARTITIONS, span=span, users=USERS, spaces=SPACES)
    cargo = load.packed(put, closed=False)
    began = time.monotonic()
    asyncio.run(load.ship(running.bootstrap, REQUESTS.name, cargo))
    _catch_up(running, PROBE)
    return round(PROBE / (time.monotonic() - began))


def _steady(running: Stack, minutes: float, rate: int, waiting: int) -> tuple[list[dict[str, Any]], int]:
    command = [
        *(sys.executable, "-m", "bench.feeder", "--bootstrap", running.bootstrap, "--rate", str(rate)),
        *("--partitions", str(PARTITIONS), "--users", str(USERS), "--spaces", str(SPACES)),
        *("--seconds", str(minutes * 60)),
    ]
    feeder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert feeder.stdout is not None
        feeder.stdout.readline()
        samples = _sampled(running, feeder, minutes)
        told = json.loads(feeder.communicate(timeout=60)[0].splitlines()[-1])
    finally:
        feeder.send_signal(signal.SIGTERM)
        feeder.wait()
    _catch_up(running, waiting + told["sent"])
    return samples, int(told["sent"])


def _sampled(running: Stack, feeder: subprocess.Popen[str], minutes: float) -> list[dict[str, Any]]:
    samples: list[dict[str, Any]] = []
    began = time.monotonic()
    minute = 0
    while feeder.poll() is None and (passed := time.monotonic() - began) < minutes * 60:
        running.check()
        samples.append({"minute": round(passed / 60, 3), "rss_mb": running.rss_mb()})
        if passed / 60 >= minute:
            rss = ", ".join(f"{part} {mb:,.0f}" for part, mb in samples[-1]["rss_mb"].items())
            say(f"soak: minute {minute}: {rss} MB")
            minute += max(1, int(minutes / 15))
        time.sleep(EVERY_S)
    return samples


def _flatness(samples: Sequence[Mapping[str, Any]], part: str) -> dict[str, float]:
    """The median after warming up and at the end; the change between the two."""
    whole = samples[-1]["minute"]
    warm = min(10.0, whole * WARM_UP)
    share = whole * AT_END

    def median(low: float, high: float) -> float:
        return float(statistics.median(s["rss_mb"][part] for s in samples if low <= s["minute"] <= high))

    before, after = median(warm, warm + share), median(whole - share, whole)
    return {
        "from_mb": round(before, 1),
        "to_mb": round(after, 1),
        "change": round(after / before - 1, 4),
        "peak_mb": round(max(s["rss_mb"][part] for s in samples), 1),
    }


def _thinned(samples: Sequence[Mapping[str, Any]], most: int = 120) -> dict[str, list[float]]:
    """Columns for a picture."""
    kept = samples[:: max(1, len(samples) // most)]
    columns: dict[str, list[float]] = {"minute": [round(s["minute"], 2) for s in kept]}
    return columns | {part: [round(s["rss_mb"][part], 1) for s in kept] for part in samples[0]["rss_mb"]}


def _catch_up(running: Stack, events: int) -> None:
    """Waits until both workers and the sink have acknowledged everything."""
    assert running.clickhouse is not None
    with connect(running.clickhouse.settings) as client:

        def done() -> bool:
            rows = int(client.query("SELECT count() FROM events").result_rows[0][0])
            return rows >= events and all(
                sum(asyncio.run(committed(running.bootstrap, kind)).values()) >= events
                for kind in ("rollup", "usage")
            )

        running.wait(f"{events:,} events in windows and in ClickHouse", done, _CAUGHT_UP_WITHIN_S, 0.2)


def _check(running: Stack, events: int) -> None:
    """Everything that was sent was counted once. Raises WrongError."""
    assert running.clickhouse is not None
    with connect(running.clickhouse.settings) as client:
        rows = client.query("SELECT count() FROM events").result_rows[0][0]
    windows = asyncio.run(product.published(running.bootstrap, PARTITIONS, SPACE))
    counted = sum(window[0] for window in windows.values())
    if not events == rows == counted:
        raise WrongError(f"{events} events were sent; ClickHouse has {rows}, the windows count {counted}")


def _require_space(home: Path, events: float) -> None:
    free, wanted = shutil.disk_usage(home).free, events * _ROW_BYTES + 4 * 2**30
    if free < wanted:
        raise SystemExit(
            f"soak: {home} has {free / 2**30:.0f} GB left, and this run may need {wanted / 2**30:.0f}: "
            "set TMPDIR to a larger disk, or soak for fewer MINUTES"
        )
