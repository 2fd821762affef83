"""Runs a part of the product, by its own command line, so that its tasks can be listed and ended.

    python part.py DIRECTORY worker rollup

A thread of its own does what the file `ask` of DIRECTORY says, and answers in the file `answer`:
`{"do": "list"}` lists the tasks of all event loops, `{"do": "end", "task": …, "how": "cancel"}` ends one.
Beyond that the part runs as always.
"""

import asyncio
import functools
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CANCEL = "cancel"
RAISE = "raise"
WAYS = (CANCEL, RAISE)
_EVERY_S = 0.05

_loops: list[asyncio.AbstractEventLoop] = []


class DeliberateError(Exception):
    """What a task raises that is ended so."""


def _remember_loops() -> None:
    run_forever = asyncio.BaseEventLoop.run_forever

    def running(self: asyncio.BaseEventLoop) -> None:
        _loops.append(self)
        run_forever(self)

    asyncio.BaseEventLoop.run_forever = running  # type: ignore[method-assign]


def _tasks() -> Iterator[tuple[asyncio.AbstractEventLoop, "asyncio.Task[Any]"]]:
    for loop in _loops:
        if not loop.is_closed():
            for task in asyncio.all_tasks(loop):
                yield loop, task


def _kind(task: "asyncio.Task[Any]") -> str:
    coroutine: Any = task.get_coro()
    code = getattr(coroutine, "cr_code", None)
    where = "/".join(Path(code.co_filename).parts[-2:]) if code is not None else "?"
    return f"{where}:{getattr(coroutine, '__qualname__', coroutine)}"


def _listed() -> list[dict[str, object]]:
    return [
        {
            "id": id(task),
            "name": task.get_name(),
            "kind": _kind(task),
            "in_main_loop": loop is _loops[0],
        }
        for loop, task in _tasks()
    ]


def _end(wanted: int, how: str) -> bool:
    """Whether the task was there, and could be ended so."""
    for loop, task in _tasks():
        if id(task) == wanted:
            outcome: queue.Queue[bool] = queue.Queue()
            loop.call_soon_threadsafe(functools.partial(_put, outcome, task, how))
            try:
                return outcome.get(timeout=10)
            except queue.Empty:  # the loop does not turn any more
                return False
    return False


def _put(outcome: "queue.Queue[bool]", task: "asyncio.Task[Any]", how: str) -> None:
    ended = False
    try:
        ended = task.cancel() if how == CANCEL else _fail(task)
    finally:
        outcome.put(ended)


def _fail(task: "asyncio.Task[Any]") -> bool:
    """What the task waits for fails, if that is no task itself."""
    awaited = task._fut_waiter  # type: ignore[attr-defined]
    if awaited is None or isinstance(awaited, asyncio.Task) or awaited.done():
        return False
    try:
        awaited.set_exception(DeliberateError("ended by the test"))
    except RuntimeError:  # what gathers others can't be made to fail
        return False
    return True


def _obey(directory: Path) -> None:
    ask, answer = directory / "ask", directory / "answer"
    while True:
        time.sleep(_EVERY_S)
        try:
            asked = json.loads(ask.read_text())
            ask.unlink()
        except FileNotFoundError:
            continue
        found: object = _listed() if asked["do"] == "list" else _end(asked["task"], asked["how"])
        new = answer.with_suffix(".new")
        new.write_text(json.dumps({"pid": os.getpid(), "found": found}))
        new.rename(answer)


def listen(directory: Path) -> None:
    """From now on do what the file `ask` of the directory says. To be called before any event loop runs."""
    _remember_loops()
    threading.Thread(target=_obey, args=(directory,), daemon=True, name="hand").start()


def main() -> None:
    directory, *arguments = sys.argv[1:]
    listen(Path(directory))
    sys.argv = ["chatgauge", *arguments]

    from cli.main import main as chatgauge

    chatgauge()


if __name__ == "__main__":
    main()
