"""Which errors of Kafka pass by themselves."""

from typing import Final

from aiokafka.errors import KafkaError

AWAY: Final = (KafkaError, OSError, TimeoutError)
"""What is raised while Kafka does not answer."""


def is_away(error: BaseException) -> bool:
    """Whether the same request may succeed once Kafka answers again."""
    return isinstance(error, AWAY)
