"""What a worker of partitions with state may meet.

RuntimeStateError
├── MovedError            the partition belongs to another worker
└── LogUnavailableError   Kafka does not answer
"""


class RuntimeStateError(Exception):
    """The root."""


class MovedError(RuntimeStateError):
    """The partition belongs to another worker by now: nothing may be written for it."""


class LogUnavailableError(RuntimeStateError):
    """Kafka does not answer."""
