"""The local Kafka."""

from infra.kafka.server import LocalKafka

__all__ = ["LocalKafka"]
