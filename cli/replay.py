"""`chatgauge replay`: recorded traffic onto Kafka."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cli.sending import console, encoder, fail, plain, send, summary
from traffic.delivery import Pace
from traffic.errors import ColumnMapError, TrafficError, UnknownTraceError
from traffic.fields import column_map
from traffic.replay import messages
from traffic.traces import Faults, Trace, read_trace

_FAULTS_SHOWN = 20
_INTERRUPTED = 130


def _speed(text: str) -> float:
    """How many times faster than recorded; 0 for as fast as possible."""
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise typer.BadParameter("write max, or how many times faster than recorded, e.g. 1 or 60")
    return speed


def _now(text: str) -> str:
    if text != "now":
        raise typer.BadParameter("a trace can be shifted to `now` only")
    return text


def replay(
    file: Annotated[
        Path, typer.Argument(help="A CSV file: an Azure LLM trace, llmperf requests, or any with --map.")
    ],
    speed: Annotated[
        float, typer.Option(parser=_speed, help="Times faster than recorded, or max.", metavar="N|max")
    ] = "max",  # type: ignore[assignment]  # typer parses defaults too
    shift_to: Annotated[
        str | None,
        typer.Option(parser=_now, help="Move the trace so that it ends now.", metavar="now"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", help="Which column holds a field, and its unit: field=column[:unit]."),
    ] = None,
    service: Annotated[str | None, typer.Option(help="The service, whatever the file says.")] = None,
    provider: Annotated[str | None, typer.Option(help="The provider, whatever the file says.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, whatever the file says.")] = None,
    users: Annotated[
        int, typer.Option(min=1, help="Made-up users to spread the lines over, if the file has none.")
    ] = 100,
) -> None:
    """Send recorded traffic to Kafka: the lines of a CSV file, as finished requests.

    Event times stay as recorded, and the events are marked as imported; with --shift-to now the whole
    trace is moved to end at this moment, as live traffic. The same file gives the same event ids.
    """
    given = {"service": service, "provider": provider, "model": model}
    constants = {name: value for name, value in given.items() if value is not None}
    trace = _read(file, columns or [], constants)
    rows = len(trace.requests)
    begin, end = (_utc(trace.requests["occurred_at"][place]) for place in (0, -1))
    plain(f"{file.name}: {trace.format}, {rows:,} requests from {begin} to {end} UTC")
    _report(trace.faults)
    now = datetime.now(UTC) if shift_to else None
    pace = None
    if speed:
        shift_us = round(now.timestamp() * 1e6) - int(trace.requests["occurred_at"][-1]) if now else 0
        pace = Pace(int(trace.requests["occurred_at"][0]) + shift_us, speed)
    outcome = send(messages(trace, encoder(), now, users), rows, pace)
    line = summary(outcome)
    plain(f"{line}; {trace.faults.count:,} lines could not be read" if trace.faults.count else line)
    if outcome.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _read(file: Path, columns: list[str], constants: dict[str, str]) -> Trace:
    try:
        mapped = column_map(columns) if columns else None
        size = file.stat().st_size if file.is_file() else None
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("reading", total=size)
            return read_trace(file, mapped, constants, lambda read: progress.advance(task, read))
    except (UnknownTraceError, ColumnMapError) as error:
        fail(error, 2)
    except TrafficError as error:
        fail(error)


def _report(faults: Faults) -> None:
    for fault in faults.first[:_FAULTS_SHOWN]:
        plain(f"line {fault.line}: {fault.reason}; left out")
    if faults.count > _FAULTS_SHOWN:
        plain(f"... and {faults.count - _FAULTS_SHOWN:,} more lines that could not be read")


def _utc(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S}"
