"""`chatgauge up`: everything on this machine, until Ctrl-C."""

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.supervision import stack as stacks
from cli.supervision.display import Display, choose
from cli.supervision.stack import Ports, Stack
from cli.supervision.status import Status, StatusReader
from cli.supervision.supervisor import Stage, Supervisor
from infra import topics
from infra.datadir import held
from infra.errors import LocalServerError, StartFailedError
from infra.kafka import jars
from infra.kafka.java import require_java
from infra.settings import (
    ClickHouseSettings,
    KafkaSettings,
    LivenessSettings,
    LocalSettings,
    RetentionSettings,
)

_READY_WITHIN = 60.0
_LOOK_EVERY = 2.0
_STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Port = Annotated[int | None, typer.Option(min=1, max=65535, show_default="as set")]


def up(
    simulate: Annotated[
        bool, typer.Option(help="Send made-up traffic, so that there is something to see.")
    ] = True,
    data: Annotated[
        Path | None, typer.Option(help="Where data and logs are kept.", show_default="var")
    ] = None,
    kafka_port: Port = None,
    clickhouse_port: Port = None,
    api_port: Port = None,
) -> None:
    """Run everything on this machine: Kafka, ClickHouse, workers, sinks, API, and simulated traffic.

    Ctrl-C stops it all; the next start goes on from the same data.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    directory = (data or LocalSettings().data).absolute()
    try:
        ports = Ports.chosen(kafka_port, clickhouse_port, api_port)
        with held(directory):
            require_java()
            jars.require()
            ports.require_free()
            stack = stacks.build(directory, ports, simulate=simulate)
            asyncio.run(_run(stack, console))
    except LocalServerError as problem:
        if isinstance(problem, StartFailedError) and problem.log_tail:
            typer.echo(problem.log_tail, err=True)
        typer.echo(f"chatgauge: {problem}", err=True)
        raise typer.Exit(1) from problem


async def _run(stack: Stack, console: Console) -> None:
    stop = asyncio.Event()
    display = choose(console, stack.parts)
    silent_within = 2 * LivenessSettings().stall_after.total_seconds()
    supervisor = Supervisor(_stages(stack, display), display.changed, silent_within)
    loop = asyncio.get_running_loop()
    for number in _STOPPING_SIGNALS:
        loop.add_signal_handler(number, _on_signal, stop, supervisor.hurry, display)
    running = asyncio.create_task(_start_and_watch(stack, supervisor, display))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        running.cancel()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        await supervisor.stop()
        display.close()
    if isinstance(outcome, Exception):
        raise outcome
    display.say("stopped; the data stay, and the next start goes on from them")


def _on_signal(stop: asyncio.Event, hurry: asyncio.Event, display: Display) -> None:
    if stop.is_set():
        hurry.set()
        return
    stop.set()
    display.say("stopping (once more to hurry)")


def _stages(stack: Stack, display: Display) -> list[Stage]:
    async def create() -> None:
        # Only now: they take a moment to import, and Kafka is starting.
        from cli.admin_key import made_at_first_start
        from sinks import tables

        states, _ = await asyncio.gather(
            topics.create(stack.kafka.bootstrap, partitions=KafkaSettings().partitions),
            asyncio.to_thread(tables.prepare, stack.clickhouse.settings, RetentionSettings()),
        )
        created = [state.name for state in states if state.created]
        display.say(f"topics: {len(states)}, of which {len(created)} new; tables are up to date")
        key = await made_at_first_start(stack.kafka.bootstrap)
        if key is not None:
            display.say(
                f"the admin key, shown this once: {key}\n  Changing rules, endpoints and silences takes it.",
                "bold",
            )

    return [Stage(stack.servers, create), Stage(stack.services), Stage(stack.traffic)]


async def _start_and_watch(stack: Stack, supervisor: Supervisor, display: Display) -> None:
    begun = time.monotonic()
    await supervisor.start()
    reader = StatusReader(stack.address)
    try:
        status = await _first_ready(reader, display)
        took = time.monotonic() - begun
        ready = status is not None and status.ready
        headline = "ready after" if ready else f"not ready yet, see {stack.address}/health/ready; runs for"
        display.say(
            f"{headline} {took:.0f} s: open {stack.address}\n"
            f"  API reference  {stack.address}/docs\n"
            f"  Kafka          {stack.kafka.bootstrap}\n"
            f"  ClickHouse     http://127.0.0.1:{stack.ports.clickhouse}"
            f" (database {ClickHouseSettings().database})\n"
            f"  logs           {stack.logs}",
            "bold" if ready else "yellow",
        )
        while True:
            display.status(await reader.read())
            await asyncio.sleep(_LOOK_EVERY)
    finally:
        await reader.close()


async def _first_ready(reader: StatusReader, display: Display) -> Status | None:
    deadline = time.monotonic() + _READY_WITHIN
    while True:
        status = await reader.read()
        if (status and status.ready) or time.monotonic() > deadline:
            return status
        await asyncio.sleep(0.25)
