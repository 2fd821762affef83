"""`python -m tests.faults --seed N --count 200`: a schedule of faults, from start to verdict."""

import argparse
import contextlib
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.catalogue import KINDS
from tests.faults.checkpoint import Checkpoint, compare
from tests.faults.conducting import Conductor, Outcome
from tests.faults.disk import keep_mounts_to_oneself
from tests.faults.feed import TOPIC, Feed
from tests.faults.mix import MIX
from tests.faults.notifications import Notifications
from tests.faults.process import End
from tests.faults.report import Run, write
from tests.faults.schedule import Fault, schedule
from tests.faults.stack import GROUP, SETTLING, Stack
from tests.faults.transactions import KIND, end_in_transactions
from tests.faults.watch import Look

_MIX = MIX | {"late": 1, "ahead": 1, "imported": 0.2}
"""Each late or imported event is another minute to write: here they come in bursts."""
_BETWEEN_COMPARISONS = 20
_BEGINS_WITHIN_S = 90.0
_WITHIN_S = 240.0
_SHOWN = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if nothing was lost, doubled or different, and nothing took too long."""
    given = _parser().parse_args(arguments)
    keep_mounts_to_oneself()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    kinds = [KINDS[name] for name in given.kind] if given.kind else list(KINDS.values())
    with _directory(given.report) as directory:
        faults = schedule(given.seed, given.count or len(kinds), kinds)
        run = _run(given, faults, directory)
        write(run, directory)
        _say(f"report: {directory / 'faults.md'}")
        for failure in run.failures[:_SHOWN]:
            _say(failure)
        if run.failures:
            _say(f"failed: {len(run.failures)} findings; once more: {_again(given)}")
        _say(run.summary)
    return 1 if run.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same schedule")
    parser.add_argument("--count", type=int, default=0, help="how many faults; 0: one of each kind")
    parser.add_argument("--rate", type=float, default=150, help="events per second")
    parser.add_argument(
        "--patience", type=float, default=1, help="everything may take so many times as long as is allowed"
    )
    parser.add_argument("--report", type=Path, help="directory for report, logs and data; kept")
    parser.add_argument(
        "--kind", action="append", choices=list(KINDS), metavar="KIND", help="only these; may be repeated"
    )
    return parser


def _again(given: argparse.Namespace) -> str:
    kinds = "".join(f" --kind {name}" for name in given.kind or ())
    return f"python -m tests.faults --seed {given.seed} --count {given.count} --rate {given.rate:g}{kinds}"


@contextlib.contextmanager
def _directory(wanted: Path | None) -> Iterator[Path]:
    """The one that is wanted, or a new one under /tmp. Data are removed; report and logs stay."""
    directory = wanted.absolute() if wanted else Path(tempfile.mkdtemp(prefix="chatgauge-faults-"))
    shutil.rmtree(directory / "run", ignore_errors=True)
    try:
        yield directory
    finally:
        for data in ("kafka", "clickhouse"):
            shutil.rmtree(directory / "run" / data, ignore_errors=True)


def _run(given: argparse.Namespace, faults: Sequence[Fault], directory: Path) -> Run:
    started = time.monotonic()
    count = len(faults)
    stack = Stack(directory / "run")
    outcomes: list[Outcome] = []
    points: list[Checkpoint] = []
    try:
        kinds = len({fault.kind for fault in faults})
        _say(f"seed {given.seed}: {count} faults of {kinds} kinds; starting Kafka, ClickHouse and the parts")
        stack.start()
        feed = Feed(stack.kafka.bootstrap, rate=given.rate, seed=given.seed, mix=_MIX)
        notifications = Notifications(stack.kafka.bootstrap, stack.data, seed=given.seed)
        conductor = Conductor(
            stack,
            feed,
            notifications,
            lambda outcome: _tell(outcome, count),
            _tell_end,
            patience=given.patience,
        )
        feed.start()
        notifications.start()
        try:
            conductor.wait("every part works", lambda: _all_count(stack), given.patience * _BEGINS_WITHIN_S)
            _say(f"all parts at work after {time.monotonic() - started:.0f} s")
            for batch in _batches(faults):
                outcomes += conductor.play(batch)
                transactions = any(outcome.fault.kind == KIND for outcome in outcomes)
                points.append(_checkpoint(conductor, len(outcomes), transactions=transactions))
        finally:
            feed.stop(within_s=0)
            notifications.stop()
    except Exception as trouble:
        traceback.print_exc()
        points.append(Checkpoint.failed(len(outcomes), f"{type(trouble).__name__}: {trouble}"))
    finally:
        stack.stop()
    return Run(given.seed, time.monotonic() - started, outcomes, points, stack.ended)


def _batches(faults: Sequence[Fault]) -> list[Sequence[Fault]]:
    """A comparison after each; a few left over are no batch of their own."""
    last = max(1, round(len(faults) / _BETWEEN_COMPARISONS)) - 1 if len(faults) > 40 else 0
    begins = [at * _BETWEEN_COMPARISONS for at in range(last + 1)]
    return [faults[begin:end] for begin, end in zip(begins, [*begins[1:], len(faults)], strict=True)]


def _all_count(stack: Stack) -> bool:
    return all(stack.watch.last.acknowledged.get(place) for place in GROUP.values())


def _behind(look: Look, feed: Feed) -> dict[str, int]:
    """The groups that have something to read still, and how much."""
    ends = look.ends | {TOPIC: feed.ends}
    lags = {group: look.lag(group, topic, ends[topic]) for group, topic in SETTLING}
    return {group: lag for group, lag in lags.items() if lag}


def _checkpoint(conductor: Conductor, after: int, *, transactions: bool) -> Checkpoint:
    """Stop the feed, wait until all is counted and written, and compare."""
    stack, feed, notifications = conductor.stack, conductor.feed, conductor.notifications
    _say("comparing: waiting until all is counted and written")
    feed.stop()
    notifications.pause()
    if transactions:
        end_in_transactions(stack.kafka.bootstrap, feed)
    now = time.monotonic()

    def settled() -> bool:
        look = stack.watch.last
        return look.at > now and not _behind(look, feed) and notifications.all_taken()

    at = time.monotonic() - conductor.begun
    try:
        conductor.wait("everything is acknowledged", settled, conductor.patience * _WITHIN_S)
    except TimeoutError as trouble:
        behind = _behind(stack.watch.last, feed)
        point = Checkpoint.failed(after, f"{trouble}; still to be acknowledged: {behind}", at)
    else:
        waited = time.monotonic() - now
        point = compare(stack, feed, notifications, after, at)
        took = time.monotonic() - now
        _say(
            f"compared after {after} faults: {point.events:,} events, "
            f"{point.notifications:,} notifications, lost {point.lost}, doubled "
            f"{point.doubled}, {len(point.differences)} differences "
            f"({waited:.0f} s to settle, {took:.0f} s in all)"
        )
    for difference in point.differences[:_SHOWN]:
        _say(f"    {difference}")
    feed.start()
    notifications.start()
    return point


def _tell(outcome: Outcome, count: int) -> None:
    fault = outcome.fault
    verdict = f"recovered in {outcome.recovery:4.1f} s" if outcome.recovery else "no pause        "
    if outcome.failed:
        verdict = f"FAILED: {outcome.failed}"
    elif outcome.too_slow:
        verdict += f", {outcome.allowed:.0f} s allowed: TOO SLOW"
    notes = f"; {'; '.join(outcome.notes)}" if outcome.notes else ""
    _say(
        f"fault {fault.number:>3} of {count}  {fault.kind:<34} {','.join(fault.lanes):<18} {verdict}"
        f"  lag {outcome.lag:>6,}  took {outcome.ended - outcome.began:.1f} s{notes}"
    )


def _tell_end(end: End) -> None:
    last = (end.said.splitlines() or [""])[-1]
    _say(f"    {end.name} has ended with status {end.status}: {last[:200]}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
