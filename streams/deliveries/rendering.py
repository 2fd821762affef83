"""Renders templates in processes that can be killed: what bounds a template's time and memory for real.

A template is a program. The sandbox keeps it from reaching anything, but not from counting to a billion, so
it runs in a small process without environment variables, without further files or connections, with a
limit on its memory, and with a clock on it: one of processor time, so that a busy machine fails no template
that is right. A process that is not done by then is killed, and the template is left out for a while, so
that it can't take the processes' time from others.
"""

import asyncio
import importlib
import resource
import signal
import struct
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from streams.deliveries.errors import TemplateError
from streams.deliveries.template import render

_LENGTH = struct.Struct("!I")
_MEMORY = 384 * 1024 * 1024
_STARTING_S = 20.0
_ENDING_S = 5.0
_LEFT_OUT_S = 60.0
_ROOT = Path(__file__).parents[2]


class _Process:
    """One renderer, at its pipe's other end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> "_Process":
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            __name__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env={"PYTHONUTF8": "1"},
        )
        started = cls(process)
        try:
            async with asyncio.timeout(_STARTING_S):
                await started._receive()
        except BaseException:
            await started.end()
            raise
        return started

    async def ended_by_clock(self) -> bool:
        """Whether it is its clock that has ended it, once it has closed its pipe."""
        # Killing it would take its status from the event loop, if it has ended meanwhile.
        with suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                return await self._process.wait() == -signal.SIGPROF
        return False

    async def ask(self, question: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(_LENGTH.pack(len(question)) + question)
        await self._process.stdin.drain()
        answer: dict[str, Any] = orjson.loads(await self._receive())
        return answer

    async def _receive(self) -> bytes:
        assert self._process.stdout is not None
        (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
        return await self._process.stdout.readexactly(length)

    async def end(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


class Renderer:
    """Renders templates, `processes` at a time and one per owner, each within `seconds` of processor time.

    `patience`: after how many seconds by the clock a process is given up, whatever it does. For one event
    loop.
    """

    def __init__(self, seconds: float = 1.0, processes: int = 2, patience: float = 10.0) -> None:
        self._seconds = seconds
        self._patience = patience
        self._free = asyncio.Semaphore(processes)
        self._idle: list[_Process] = []
        self._turns: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._left_out: dict[str, float] = {}

    async def render(self, source: str, event: Mapping[str, Any], *, owner: str, html: bool = False) -> str:
        """What `template.render` says, within the limits. `owner`: whose template it is (an endpoint's id).

        Raises TemplateError.
        """
        self._refuse_left_out(source)
        turn = self._turns.setdefault(owner, asyncio.Lock())
        async with turn, self._free:
            self._refuse_left_out(source)
            try:
                process = self._idle.pop() if self._idle else await _Process.start()
            except (OSError, asyncio.IncompleteReadError) as error:
                raise TemplateError(f"no process could be started to render it: {error}") from error
            try:
                answer = await self._ask(process, orjson.dumps([source, event, html, self._seconds]))
            except TimeoutError:
                self._left_out[source] = asyncio.get_running_loop().time() + _LEFT_OUT_S
                raise TemplateError(f"it takes longer than {self._seconds:g} s") from None
        if answer["error"] is not None:
            raise TemplateError(answer["error"], answer["line"])
        output: str = answer["output"]
        return output

    async def _ask(self, process: _Process, question: bytes) -> dict[str, Any]:
        whole = False
        try:
            async with asyncio.timeout(self._patience):
                answer = await process.ask(question)
            whole = not answer["spent"]
        except (asyncio.IncompleteReadError, ConnectionError):
            if await process.ended_by_clock():
                raise TimeoutError from None
            raise TemplateError("it has brought its process to an end") from None
        finally:
            if whole:
                self._idle.append(process)
            else:
                await process.end()
        return answer

    def _refuse_left_out(self, source: str) -> None:
        until = self._left_out.get(source)
        if until is None:
            return
        if asyncio.get_running_loop().time() < until:
            raise TemplateError(
                f"it took longer than {self._seconds:g} s, and is left out for {_LEFT_OUT_S:g} s"
            )
        del self._left_out[source]

    async def close(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            await self._idle.pop().end()


def _answer(question: bytes) -> bytes:
    source, event, html, seconds = orjson.loads(question)
    output = error = line = None
    spent = False
    # Its signal ends the process, also in the midst of a single long operation.
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        output = render(source, event, html=html)
    except TemplateError as wrong:
        error, line = wrong.reason, wrong.line
    except MemoryError:
        error, spent = f"it needs more than {_MEMORY // 2**20} MiB of memory", True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    try:
        return orjson.dumps({"output": output, "error": error, "line": line, "spent": spent})
    except orjson.JSONEncodeError as wrong:  # half a surrogate pair
        return orjson.dumps({"output": None, "error": str(wrong), "line": None, "spent": spent})


def _confine() -> None:
    """No more memory than that, no files or connections beside the two pipes."""
    # What is imported on demand has to be there already.
    for module in ("encodings.unicode_escape", "html", "jinja2.debug", "pprint", "textwrap"):
        importlib.import_module(module)
    for source in ("{{ 'a' | urlize | tojson }}{% for a in (1, 2) | sort %}{{ a }}{% endfor %}", "{{ a.b }}"):
        with suppress(TemplateError):
            render(source, {})
    limits = (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 3),
    )
    for which, limit in limits:
        resource.setrlimit(which, (limit, limit))


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    _confine()
    answer = b"ready"
    while True:
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()
        header = questions.read(_LENGTH.size)
        if len(header) < _LENGTH.size:
            return
        answer = _answer(questions.read(_LENGTH.unpack(header)[0]))


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
