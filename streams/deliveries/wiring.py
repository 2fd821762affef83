"""The delivery agent as a worker runs it: with its channels, its settings, and its place on the harness."""

import contextlib
import resource
from datetime import timedelta
from typing import Final

from infra.settings import AccessSettings, DeliverySettings, KafkaSettings, LocalSettings, MailSettings
from schemas.topics import NOTIFICATIONS, OUTBOX
from streams.deliveries.agent import DeliveryAgent
from streams.deliveries.channels import open_outlets
from streams.deliveries.secrets import open_vault
from streams.harness import Agent, Wiring

_LINGER: Final = timedelta(milliseconds=10)
"""Alerts come one by one, and wait for nothing; a storm fills a fetch anyway."""


def wired(kafka: KafkaSettings) -> tuple[Agent, Wiring]:
    """The agent, and where it belongs. Raises SecretError where the key of the secrets can't be read."""
    _allow_connections()
    deliveries, mail = DeliverySettings(), MailSettings()
    key = AccessSettings().secret_key
    vault = open_vault(key.get_secret_value() if key else None, LocalSettings().data, create=True)
    agent = DeliveryAgent(kafka.bootstrap, deliveries, lambda: open_outlets(deliveries, mail, vault))
    return agent, Wiring("deliveries", NOTIFICATIONS, OUTBOX, kafka.partitions, _LINGER)


def _allow_connections() -> None:
    """As many as the system lets this process have: hundreds of endpoints keep some open each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # unlimited is not for everybody to set
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
