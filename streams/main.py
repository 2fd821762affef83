"""Runs a stream worker as a process."""

import faust
from prometheus_client import start_http_server

from infra import logs
from infra.settings import KafkaSettings, MetricsSettings, RegistrySettings, WindowSettings, WorkerSettings
from streams.app import WORKERS, build, registry_of


def run(kind: str, metrics_port: int) -> None:
    """Run the worker `rollup` or `usage` until SIGTERM or SIGINT; ends with SystemExit.

    Its Prometheus metrics are served on `metrics_port`; 0 switches them off.
    """
    logs.begin()
    steps = WorkerSettings()
    worker = WORKERS[kind](WindowSettings(), steps)
    app = build(worker, KafkaSettings(), steps, registry_of(RegistrySettings()))
    if metrics_port:
        start_http_server(metrics_port, addr=MetricsSettings().host)
    faust.Worker(app, loglevel="WARN", redirect_stdouts=False, quiet=True).execute_from_commandline()
