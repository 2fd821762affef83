"""What a person sees: a table on a terminal, lines elsewhere; and nothing breaks when nobody looks."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from cli.supervision.display import Board, Display, Lines, choose
from cli.supervision.part import Part, State
from cli.supervision.status import Status
from infra.process import Child

STATUS = Status(ready=True, awaiting=(), lag=0, events=5, events_per_s=7.0, dead_letters=0)


class Closed(io.StringIO):
    """A terminal that is gone."""

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")

    def isatty(self) -> bool:
        return True


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part("kafka", "127.0.0.1:9092", lambda: Child("kafka", [], tmp_path / "log"), lambda: True)


def use(display: Display, part: Part) -> None:
    part.enter(State.RUNNING)
    display.changed(part)
    display.status(STATUS)
    part.enter(State.FAILING, "kafka ended with status 1; again in 30 s\nits last words")
    display.changed(part)
    display.say("done")
    display.close()


def test_lines_are_one_for_each_change(part: Part) -> None:
    console = Console(file=io.StringIO(), width=40)
    display = choose(console, [part])
    assert isinstance(display, Lines)

    use(display, part)

    assert isinstance(console.file, io.StringIO)
    lines = [line[11:] for line in console.file.getvalue().splitlines()]
    assert lines[0] == "kafka: running (127.0.0.1:9092)"
    assert lines[1] == "7 events/s · 0 behind · 0 dead letters"
    assert lines[2] == "kafka: keeps failing (kafka ended with status 1; again in 30 s"
    assert lines[-1] == "done"


def test_a_terminal_shows_a_table_with_the_status_below(part: Part) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    display = choose(console, [part])
    assert isinstance(display, Board)

    use(display, part)

    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for words in ("✔ kafka", "127.0.0.1:9092", "✘ kafka", "its last words", "7 events/s", "done"):
        assert words in shown


@pytest.mark.parametrize("terminal", [True, False])
def test_a_closed_terminal_is_no_failure(part: Part, terminal: bool) -> None:
    display = choose(Console(file=Closed(), force_terminal=terminal), [part])

    use(display, part)

    assert part.state is State.FAILING
