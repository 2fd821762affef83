"""Runs a worker as a process: one that counts, `rollup` or `usage`, or one that acts, `alerts` or
`deliveries`."""

from collections.abc import Callable, Sequence

from prometheus_client import start_http_server

from infra import logs
from infra.settings import (
    AlertSettings,
    KafkaSettings,
    MetricsSettings,
    RegistrySettings,
    WindowSettings,
    WorkerSettings,
)
from streams import faust_app, harness
from streams.app import WORKERS, build, registry_of
from streams.harness import Agent, Wiring


def run(kind: str, metrics_port: int) -> None:
    """Run a worker until SIGTERM or SIGINT; ends with SystemExit.

    Its Prometheus metrics are served on `metrics_port`; 0 switches them off.
    """
    logs.begin()
    if metrics_port:
        start_http_server(metrics_port, addr=MetricsSettings().host)
    kafka = KafkaSettings()
    if kind in AGENTS:
        harness.run(AGENTS[kind](kafka), kafka)
        return
    steps = WorkerSettings()
    app = build(WORKERS[kind](WindowSettings(), steps), kafka, steps, registry_of(RegistrySettings()))
    faust_app.run(app)


def alerts(kafka: KafkaSettings) -> Sequence[tuple[Agent, Wiring]]:
    """What raises alerts."""
    from streams.alerts import agent
    from streams.alerts.rulebook import Rulebook

    settings = AlertSettings()
    rulebook = Rulebook(kafka.bootstrap, settings)
    return [agent.wired(rulebook, kafka, settings, WindowSettings())]


AGENTS: dict[str, Callable[[KafkaSettings], Sequence[tuple[Agent, Wiring]]]] = {"alerts": alerts}
