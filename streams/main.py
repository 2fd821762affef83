"""Runs a worker as a process: one that counts, `rollup` or `usage`, or one that acts, `alerts` or
`deliveries`."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from infra import logs
from infra.liveness import attended
from infra.settings import (
    AccessSettings,
    AlertSettings,
    ClickHouseSettings,
    DeliverySettings,
    KafkaSettings,
    LocalSettings,
    MailSettings,
    NotificationSettings,
    RegistrySettings,
    WindowSettings,
    WorkerSettings,
)
from schemas.topics import NOTIFICATIONS, OUTBOX
from streams.counting.workers import WORKERS, build, registry_of
from streams.runtime import application, harness
from streams.runtime.agent import Agent, Wiring

_PROMPTLY: Final = timedelta(milliseconds=20)
"""How long what is to be told gathers."""


def run(kind: str, metrics_port: int) -> None:
    """Run a worker until SIGTERM or SIGINT; ends with SystemExit.

    Its Prometheus metrics and its health are served on `metrics_port`; 0 switches them off.
    """
    logs.begin()
    with attended(kind, metrics_port or None) as part:
        kafka, steps = KafkaSettings(), WorkerSettings()
        if kind in AGENTS:
            harness.run(AGENTS[kind](kafka), kafka, part)
            return
        worker = WORKERS[kind](WindowSettings(), steps)
        application.run(part, build(worker, kafka, steps, registry_of(RegistrySettings()), part))


def alerts(kafka: KafkaSettings) -> Sequence[tuple[Agent, Wiring]]:
    """What raises alerts."""
    from streams.alerts import agent

    registry = registry_of(RegistrySettings())
    return agent.wired(kafka, AlertSettings(), WindowSettings(), ClickHouseSettings(), registry)


def deliveries(kafka: KafkaSettings) -> Sequence[tuple[Agent, Wiring]]:
    """What tells of alerts: who is told, and the telling. Raises SecretError without a key for secrets."""
    from streams.deliveries.agent import DeliveryAgent
    from streams.deliveries.channels import open_outlets
    from streams.endpoints.secrets import open_vault
    from streams.notifications import agent as notifier

    settings, access = DeliverySettings(), AccessSettings()
    key = access.secret_key.get_secret_value() if access.secret_key else None
    vault = open_vault(key, LocalSettings().data, create=True)
    agent = DeliveryAgent(kafka.bootstrap, settings, lambda: open_outlets(settings, MailSettings(), vault))
    registry = registry_of(RegistrySettings())
    return [
        notifier.wired(kafka, NotificationSettings(), WindowSettings(), registry),
        (agent, Wiring("deliveries", NOTIFICATIONS, OUTBOX, kafka.partitions, _PROMPTLY)),
    ]


AGENTS: dict[str, Callable[[KafkaSettings], Sequence[tuple[Agent, Wiring]]]] = {
    "alerts": alerts,
    "deliveries": deliveries,
}
