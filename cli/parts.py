"""The long-running parts, one command each: they run until SIGTERM or Ctrl-C."""

from enum import StrEnum
from typing import Annotated

import typer

from infra.settings import WorkerSettings


class Kind(StrEnum):
    """Which worker."""

    ROLLUP = "rollup"
    USAGE = "usage"
    ALERTS = "alerts"
    DELIVERIES = "deliveries"


def worker(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="rollup: figures by few-valued keys; usage: by user; alerts: judges what closes; "
            "deliveries: tells of alerts."
        ),
    ],
    metrics_port: Annotated[
        int | None, typer.Option(help="Where to serve Prometheus metrics; 0 switches them off.")
    ] = None,
) -> None:
    """Run a stream worker: it counts requests into windows, raises alerts, or delivers notifications."""
    from streams import main

    settings = WorkerSettings()
    default: int = getattr(settings, f"{kind.value}_metrics_port")
    main.run(kind.value, default if metrics_port is None else metrics_port)


def sink() -> None:
    """Run the sinks: they write every topic into ClickHouse."""
    from sinks import main
    from sinks.errors import SinkError

    try:
        main.run()
    except SinkError as error:
        typer.echo(f"chatgauge: {error}", err=True)
        raise typer.Exit(1) from error


def api() -> None:
    """Run the API: figures, health and metrics over HTTP."""
    from api import main

    main.run()
