"""What `simulate` and `replay` share: sending with a progress bar, Ctrl-C, and the count at the end."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infra.settings import KafkaSettings, RegistrySettings
from schemas.errors import RegistryError
from schemas.registry import SchemaRegistry
from traffic.delivery import Pace, Tally, deliver
from traffic.errors import TrafficError
from traffic.messages import Encoder, Messages
from traffic.publish import Publisher

_PLAIN_EVERY = 5.0
"""Seconds between two lines where there is no terminal to draw a bar on."""

console = Console()


def fail(error: Exception | str, code: int = 1) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    typer.echo(f"{typer.style('error:', fg='red')} {error}", err=True)
    raise typer.Exit(code)


def encoder() -> Encoder:
    """Writes with the schema registry's ids if one is set; ends the command if that one fails."""
    url = RegistrySettings().url
    if url is None:
        return Encoder()
    try:
        with SchemaRegistry(url) as registry:
            return Encoder(registry)
    except RegistryError as error:
        fail(error)


@dataclass(frozen=True)
class Outcome:
    """How the sending ended."""

    tally: Tally
    interrupted: bool


def send(blocks: Iterable[list[Messages]], total: int | None, pace: Pace | None) -> Outcome:
    """Sends the messages, showing progress; `total` is how many requests are expected, if known.

    Ctrl-C and SIGTERM end it early: what was handed over is still confirmed. When Kafka fails, the
    command ends with its error.
    """
    try:
        return asyncio.run(_send(blocks, total, pace))
    except TrafficError as error:
        fail(error)


async def _send(blocks: Iterable[list[Messages]], total: int | None, pace: Pace | None) -> Outcome:
    # The client says in many lines what our errors say in one.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with Publisher(KafkaSettings().bootstrap) as publisher:
            with _Shown(total) as shown:
                tally = await deliver(blocks, publisher, pace, stop, shown.update)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return Outcome(tally, stop.is_set())


class _Shown:
    """A progress bar on a terminal; elsewhere a line every few seconds."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._said = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("sending"),
                BarColumn(),
                TextColumn("{task.completed:,} requests"),
                TextColumn("{task.fields[rate]:,.0f} messages/s"),
                TimeElapsedColumn(),
                *([TimeRemainingColumn()] if total else []),
                console=console,
            )
            self._task = self._bar.add_task("sending", total=total, rate=0.0)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, tally: Tally) -> None:
        done = requests(tally)
        rate = tally.messages / tally.seconds if tally.seconds else 0.0
        if self._bar:
            self._bar.update(self._task, completed=done, rate=rate)
        elif time.monotonic() - self._said >= _PLAIN_EVERY:
            self._said = time.monotonic()
            of = f" of {self._total:,}" if self._total else ""
            plain(f"sent {done:,}{of} requests, {rate:,.0f} messages/s")


def requests(tally: Tally) -> int:
    """How many finished requests are among what was sent."""
    return sum(tally.kinds[kind] for kind in ("request", "failed request", "late", "too late"))


def plain(text: str) -> None:
    """A line of output, never wrapped; a closed pipe is not an error."""
    with suppress(BrokenPipeError):
        print(text, flush=True)  # noqa: T201


def summary(outcome: Outcome) -> str:
    """One line: how much was sent, of what kinds, how fast."""
    tally = outcome.tally
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(tally.kinds.items()))
    rate = tally.messages / tally.seconds if tally.seconds else 0.0
    line = f"sent {tally.messages:,} messages in {tally.seconds:.1f} s ({rate:,.0f}/s): {kinds or 'none'}"
    if tally.behind > 1:
        line += f"; fell {tally.behind:.0f} s behind the clock"
    if outcome.interrupted:
        line += "; interrupted"
    return line
