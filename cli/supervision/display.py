"""What a person sees while parts run: a table on a terminal, lines elsewhere."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.supervision.part import Part, State
from cli.supervision.status import Status

_STYLES = {
    State.WAITING: ("·", "dim"),
    State.STARTING: ("…", "yellow"),
    State.RUNNING: ("✔", "green"),
    State.RESTARTING: ("↻", "yellow"),
    State.FAILING: ("✘", "red"),
    State.STOPPING: ("…", "yellow"),
    State.STOPPED: ("■", "dim"),
}
_STATUS_LINE_EVERY = 30.0


class Display(Protocol):
    """Shows parts; never fails because nobody can see it any more."""

    def changed(self, part: Part) -> None: ...
    def status(self, status: Status | None) -> None: ...
    def say(self, text: str, style: str = "") -> None: ...
    def close(self) -> None: ...


@contextmanager
def _unseen() -> Iterator[None]:
    """The terminal may be closed, or the pipe: what runs goes on, or stops, all the same."""
    try:
        yield
    except (OSError, ValueError):
        return


class Lines:
    """One line for every change; for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._last_status = 0.0

    def changed(self, part: Part) -> None:
        about = part.detail or (part.about if part.state is State.RUNNING else "")
        self.say(f"{part.name}: {part.state.value}{f' ({about})' if about else ''}")

    def status(self, status: Status | None) -> None:
        if status and time.monotonic() - self._last_status >= _STATUS_LINE_EVERY:
            self._last_status = time.monotonic()
            self.say(status.line)

    def say(self, text: str, style: str = "") -> None:
        with _unseen():
            lines = Text(f"{time.monotonic() - self._begun:7.1f} s  {text}", style=style)
            self._console.print(lines, soft_wrap=True)
            self._console.file.flush()

    def close(self) -> None:
        return


class Board:
    """A table of the parts that is kept up to date, with the status below it; for terminals."""

    def __init__(self, console: Console, parts: Sequence[Part]) -> None:
        self._console = console
        self._parts = parts
        self._status = Text()
        self._live = Live(self._render(), console=console, auto_refresh=False, transient=False)
        with _unseen():
            self._live.start()

    def changed(self, part: Part) -> None:
        if part.state is State.FAILING:
            self.say(f"{part.name}: {part.detail}", "red")
        self._refresh()

    def status(self, status: Status | None) -> None:
        if status:
            self._status = Text(status.line, style="" if status.ready else "yellow")
        self._refresh()

    def say(self, text: str, style: str = "") -> None:
        with _unseen():
            self._console.print(Text(text, style=style))

    def close(self) -> None:
        self._refresh()
        with _unseen():
            self._live.stop()

    def _refresh(self) -> None:
        with _unseen():
            self._live.update(self._render(), refresh=True)

    def _render(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for part in self._parts:
            sign, style = _STYLES[part.state]
            table.add_row(
                Text(f"{sign} {part.name}", style=style),
                Text(part.state.value, style=style),
                Text(_duration(time.monotonic() - part.since), style="dim", justify="right"),
                Text(
                    part.detail.splitlines()[0] if part.detail else part.about,
                    overflow="ellipsis",
                    no_wrap=True,
                ),
            )
        return Group(table, self._status)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.0f} h"


def choose(console: Console, parts: Sequence[Part]) -> Display:
    return Board(console, parts) if console.is_terminal else Lines(console)
