"""What can go wrong while traffic is made or replayed.

TrafficError
  KafkaUnavailableError   no broker answers, or it stopped to take messages
  MissingTopicError       the topics have not been created
  UnknownTraceError       a CSV file whose header isn't understood
  ColumnMapError          a --map that can't be used
  EmptyTraceError         not one line of the file could be read
"""


class TrafficError(Exception):
    """Root of the package's errors; the message says what to do."""


class KafkaUnavailableError(TrafficError):
    """No broker answers, or it stopped to take messages."""


class MissingTopicError(TrafficError):
    """The topics have not been created."""


class UnknownTraceError(TrafficError):
    """A CSV file whose header isn't understood."""


class ColumnMapError(TrafficError):
    """A mapping of columns that can't be used."""


class EmptyTraceError(TrafficError):
    """Not one line of the file could be read."""
