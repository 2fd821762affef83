"""`chatgauge backtest`: which alerts a rule would have given in the past."""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType
from typing import Annotated

import typer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cli.backtest_report import Found, as_json, lines
from cli.definitions import (
    KafkaAwayError,
    NoSuchRuleError,
    endpoints,
    is_file,
    rule_of_file,
    rule_of_files,
    rule_of_kafka,
)
from cli.rebuild import parsed_time
from cli.sending import fail, plain
from clients.clickhouse.connection import connect, is_transient, said
from infra.settings import ClickHouseSettings, NotificationSettings, WindowSettings
from schemas.time import SECOND, micros, micros_of
from streams.alerts.rule import Rule
from streams.alerts.rule_states import series_of
from streams.backtest.backtest import Backtested, BacktestError, settled
from streams.backtest.backtest import backtest as run_backtest
from streams.backtest.recorded import RecordedHistory
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.panes import PANES
from streams.endpoints.endpoint import Endpoint
from streams.notifications.terms import terms_of

_INTERRUPTED = 130
_NO_SUCH_TABLE = 60
_NO_SUCH_DATABASE = 81

_notes = Console(stderr=True)


class Include(StrEnum):
    """Which requests count."""

    LIVE = "live"
    IMPORTED = "imported"
    ALL = "all"


def backtest(
    rule: Annotated[
        str,
        typer.Argument(
            help="The id of a rule, or a YAML file with one (rules.yaml, or rules.yaml#id).", metavar="RULE"
        ),
    ],
    start: Annotated[
        datetime, typer.Option("--from", parser=parsed_time, help="Where to begin.", metavar="TIME")
    ],
    end: Annotated[
        datetime | None,
        typer.Option("--to", parser=parsed_time, help="Where to end; now if not given.", metavar="TIME"),
    ] = None,
    include: Annotated[
        Include,
        typer.Option(help="Which requests count: rules judge live ones alone, unless told otherwise here."),
    ] = Include.LIVE,
    json: Annotated[bool, typer.Option("--json", help="Everything, for programs.")] = False,
) -> None:
    """Judge the past by a rule: which alerts it would have given, and who would have been told.

    The minutes are those that ClickHouse has now, late events and rebuilds included; they are judged by the
    code that judges live ones, as if the rule had been set up at --from. Times are event times. Who is told
    follows from the present endpoints; silences are left out.
    """
    now = datetime.now(UTC)
    if start >= (end or now):
        raise typer.BadParameter("--from must lie before --to")
    logging.getLogger("urllib3.connectionpool").setLevel(logging.CRITICAL)
    chosen, told = _set_up(rule)
    settings, windows = ClickHouseSettings(), WindowSettings()
    last = settled(micros_of(end or now), micros_of(now), micros(windows.lateness))
    found = Found(chosen, micros_of(start), last)
    began = time.monotonic()
    try:
        with closing(connect(settings)) as client, _stopping() as stop:
            _say_what_is_missing(client, found, include, windows)
            for step in _stepped(client, found, told, include, windows, stop):
                found.alerts += step.alerts
                found.notifications += step.notifications
                found.decisions = dict(Counter(found.decisions) + Counter(step.decisions))
                found.through = step.through
    except BacktestError as error:
        fail(error)
    except (ClickHouseError, OSError) as error:
        fail(_explained(error, settings))
    interrupted = stop.is_set()
    if json:
        plain(as_json(found))
    else:
        for line in lines(found, windows.timezone):
            plain(line)
        _note(f"{time.monotonic() - began:.1f} s{_rest(found, interrupted)}")
    if interrupted:
        raise typer.Exit(_INTERRUPTED)


def _set_up(name: str) -> tuple[Rule, dict[str, Endpoint]]:
    """The rule, and the endpoints, as far as Kafka tells of them."""
    try:
        chosen = rule_of_file(name) if is_file(name) else None
        try:
            chosen = chosen or rule_of_kafka(name)
            told = endpoints()
        except KafkaAwayError as error:
            _note(f"{error}: rules are looked up in files, and nobody would be told")
            told = {}
        return chosen or rule_of_files(name), told
    except NoSuchRuleError as error:
        fail(error)


def _say_what_is_missing(client: Client, found: Found, include: Include, windows: WindowSettings) -> None:
    """Where there is nothing to judge, it is said, and where there would be something."""

    def there(what: Include) -> bool:
        history = RecordedHistory(client, windows.timezone, what.value)
        series = series_of(found.rule)
        grouping = GROUPINGS.get(series.grouping)
        return grouping is None or history.bounds(grouping, series.pane, found.start, found.end) is not None

    if there(include):
        return
    hint = ""
    if PANES[found.rule.pane].live_only:
        hint = f": panes of {found.rule.pane} are kept for CHATGAUGE_RETENTION_LIVE_WINDOWS_DAYS"
    elif include is not Include.ALL and there(Include.ALL):
        other = Include.IMPORTED if include is Include.LIVE else Include.LIVE
        hint = f", but {other.value} ones: --include {other.value}"
    kinds = "" if include is Include.ALL else f"{include.value} "
    _note(f"there are no {kinds}requests in that time{hint}")


def _stepped(
    client: Client,
    found: Found,
    told: dict[str, Endpoint],
    include: Include,
    windows: WindowSettings,
    stop: threading.Event,
) -> Iterator[Backtested]:
    """The backtest, with its progress on a terminal."""
    history = RecordedHistory(client, windows.timezone, include.value)
    steps = run_backtest(
        found.rule,
        history,
        found.start,
        found.end,
        endpoints=told,
        terms=terms_of(NotificationSettings(), windows),
        lateness=micros(windows.lateness),
    )
    with Progress(
        TextColumn("judging"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=_notes,
        transient=True,
        disable=not _notes.is_terminal,
    ) as progress:
        task = progress.add_task("judging", total=(found.end - found.start) / SECOND)
        for step in steps:
            yield step
            progress.update(task, completed=(step.through - found.start) / SECOND)
            if stop.is_set():
                return


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    before = {number: signal.signal(number, _setting(stop)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _setting(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)  # who asks twice doesn't want to wait

    return handle


def _rest(found: Found, interrupted: bool) -> str:
    if not interrupted:
        return ""
    reached = found.start if found.through is None else found.through
    return f"; interrupted at {datetime.fromtimestamp(reached // SECOND, UTC).isoformat()}"


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _explained(error: Exception, settings: ClickHouseSettings) -> str:
    if getattr(error, "code", None) in (_NO_SUCH_TABLE, _NO_SUCH_DATABASE):
        return "ClickHouse has no tables yet: they are created when the sink starts (chatgauge sink)"
    if is_transient(error):
        return f"ClickHouse at {settings.host}:{settings.port} does not answer ({said(error)})"
    return f"ClickHouse refuses: {said(error)}"
