"""`chatgauge rebuild`: past minutes counted again from the raw events."""

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from types import FrameType
from typing import Annotated

import typer
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.sending import console, fail, plain
from clients.clickhouse.connection import connect, is_transient, said
from infra.settings import ClickHouseSettings, RetentionSettings, WindowSettings
from schemas.time import MINUTE, Micros, micros_of
from sinks.rebuild.history import History
from sinks.rebuild.minutes import Outcome, Verdict
from sinks.rebuild.rebuild import rebuild as rebuild_minutes

_INTERRUPTED = 130
_NO_SUCH_TABLE = 60
_NO_SUCH_DATABASE = 81
_REASONS = {
    Verdict.EXPIRED: "raw events expired",
    Verdict.MISSING: "raw events missing that the windows have counted (is the sink behind?)",
}


def parsed_time(text: str) -> datetime:
    """A time as people write it, with its zone, in UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise typer.BadParameter("write a time with its zone, e.g. 2026-11-20T10:00Z")
    return time.astimezone(UTC)


def rebuild(
    start: Annotated[
        datetime, typer.Option("--from", parser=parsed_time, help="The first minute.", metavar="TIME")
    ],
    end: Annotated[
        datetime,
        typer.Option("--to", parser=parsed_time, help="Where to end; that minute excluded.", metavar="TIME"),
    ],
) -> None:
    """Count past minutes again from the raw events in ClickHouse, each event once.

    Sinks do so by themselves where events came late or were imported. This does it for every minute of
    a span of time. The exit code is 3 when some could not be rebuilt, because their raw events are not
    all there; those stay as they are.
    """
    first, last = _floor(micros_of(start)), -_floor(-micros_of(end))
    if first >= last:
        raise typer.BadParameter("--from must lie before --to")
    logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL)
    settings = ClickHouseSettings()
    stop = threading.Event()
    before = {number: signal.signal(number, _setting(stop)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with closing(connect(settings)) as client:
            history = History(client, WindowSettings().timezone, RetentionSettings().events_days)
            minutes, recent = history.minutes_between(first, last)
            outcome = _run(history, minutes, stop)
    except (ClickHouseError, OSError) as error:
        fail(_explained(error, settings))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    plain(_summary(outcome, len(minutes), recent, interrupted=stop.is_set()))
    if stop.is_set():
        raise typer.Exit(_INTERRUPTED)
    if outcome.not_whole:
        raise typer.Exit(3)


def _floor(time: Micros) -> Micros:
    return time // MINUTE * MINUTE


def _setting(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # who asks twice doesn't want to wait

    return handle


def _run(history: History, minutes: list[Micros], stop: threading.Event) -> Outcome:
    outcome = Outcome()
    with Progress(
        TextColumn("rebuilding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("minutes"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("rebuilding", total=len(minutes))
        for outcome in rebuild_minutes(history, minutes, wanted=lambda: not stop.is_set()):
            progress.update(task, completed=outcome.done)
    return outcome


def _summary(outcome: Outcome, asked: int, recent: int, *, interrupted: bool) -> str:
    parts = [f"rebuilt {outcome.rebuilt:,} minutes"]
    parts += [f"{len(found):,} not whole: {_REASONS[why]}" for why, found in outcome.not_whole.items()]
    if recent:
        parts.append(f"{recent:,} left out: they ended less than 10 minutes ago")
    if interrupted:
        parts.append(f"interrupted, {asked - outcome.done:,} left as they were")
    if not asked and not recent:
        parts.append("there are no requests in that time")
    return "; ".join(parts) if interrupted or not asked else ", ".join(parts)


def _explained(error: Exception, settings: ClickHouseSettings) -> str:
    if getattr(error, "code", None) in (_NO_SUCH_TABLE, _NO_SUCH_DATABASE):
        return "ClickHouse has no tables yet: they are created when the sink starts (chatgauge sink)"
    if is_transient(error):
        where = f"{settings.host}:{settings.port}"
        return (
            f"ClickHouse at {where} does not answer ({said(error)}): what was rebuilt stays rebuilt; "
            "start again for the rest"
        )
    return f"ClickHouse refuses: {said(error)}"
