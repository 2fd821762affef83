"""How Kafka's producers are made."""

from typing import Any

from aiokafka import AIOKafkaProducer


def new_producer(bootstrap: str, **settings: Any) -> AIOKafkaProducer:
    """A producer of messages that are acknowledged once all in-sync replicas have them.

    Further `settings` are aiokafka's.
    """
    return AIOKafkaProducer(**{"bootstrap_servers": bootstrap, "acks": "all"} | settings)
