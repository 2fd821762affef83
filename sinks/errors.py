"""What can go wrong in the sinks, and ends them.

SinkError
├── MigrationError     an applied migration was changed, or the database is newer than this version
├── TopicRecreatedError     ClickHouse holds offsets that Kafka has not reached
├── InsertRefusedError      ClickHouse will never take this insert
└── LetterRefusedError      Kafka will never take this dead letter
"""


class SinkError(Exception):
    """The root. A person has to act: the message says how."""


class MigrationError(SinkError):
    """The tables are not as this version's migrations made them."""


class TopicRecreatedError(SinkError):
    """The topic ends before what has already been stored of it."""

    def __init__(self, topic: str, partition: int, end: int, reached: int, where: str) -> None:
        super().__init__(
            f"{topic}/{partition} ends at offset {end}, but {where} has reached {reached}: the topic was "
            "deleted and created again, or Kafka lost data. To go on with the new topic, keep the history "
            "under another name or drop it (RENAME or TRUNCATE TABLE), delete the consumer group, and "
            "start the sink again."
        )
        self.topic, self.partition, self.end, self.reached = topic, partition, end, reached


class InsertRefusedError(SinkError):
    """ClickHouse refused an insert for a reason that trying again does not mend."""

    def __init__(self, table: str, code: int | None, message: str) -> None:
        super().__init__(
            f"ClickHouse refuses rows for {table}: {message} Nothing is lost: the sink goes on where it "
            "stopped, once table and writer agree (`chatgauge up` and the sink's start run the migrations)."
        )
        self.table, self.code = table, code


class LetterRefusedError(SinkError):
    """Kafka refused a dead letter for a reason that trying again does not mend."""

    def __init__(self, topic: str, message: str) -> None:
        super().__init__(
            f"Kafka refuses dead letters for {topic}: {message}. Nothing is lost: the sink goes on where it "
            "stopped, once the topic is as `chatgauge topics` makes it."
        )
        self.topic = topic
