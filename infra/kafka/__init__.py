"""The local Kafka."""

from infra.kafka.server import LocalKafka, Outside

__all__ = ["LocalKafka", "Outside"]
