"""What an agent has of its worker: where it writes, and what it may ask. The entries' formats."""

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from clients.kafka.publisher import Message
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.topics import Topic
from streams.runtime import metrics

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_STATE: Final = Codec(schema("AgentState"))


class State(NamedTuple):
    """An entry of an agent's state."""

    offset: int
    """Everything up to this offset of the source was in it when it was written; -1 where it doesn't say."""
    state: bytes


class Ledger(Protocol):
    """Where an agent writes. Its methods return when Kafka has everything; while it is away, they wait."""

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """Entries of the partition's state by key; None deletes one. Not atomic across entries.

        Raises MovedError when the partition is not ours any more.
        """
        ...

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Records (key, Avro record) to a topic; those of a key stay in order."""
        ...


class Worker(Ledger, Protocol):
    """What an agent has that acknowledges for itself, and goes on while Kafka takes what it has written."""

    @property
    def source_partitions(self) -> int:
        """How many partitions the source has."""
        ...

    def entry(self, partition: int, key: bytes) -> bytes | None:
        """An entry of the partition's state, as it was written last."""
        ...

    def caught_up(self, partition: int) -> bool:
        """Whether everything in the source's partition is acknowledged."""
        ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Encoded records; those of a partition stay in order."""
        ...

    async def acknowledge(self, partition: int, through: int) -> None:
        """Acknowledge the fetches of the partition that end at the offset `through` or before it."""
        ...

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """Declares that the agent waits for something meanwhile, however long that takes."""
        ...

    async def compute(self, work: Callable[[], _T]) -> _T:
        """The work's result, computed in a thread, so that others get on meanwhile."""
        ...

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with something meanwhile; if it fails, the worker ends."""
        ...


class Format(Protocol):
    """How entries lie in the changelog."""

    def key(self, partition: int, key: bytes) -> bytes: ...

    def value(self, partition: int, through: int, state: bytes) -> bytes: ...

    def read(self, key: bytes, value: bytes) -> tuple[bytes, State]:
        """Raises SchemaError or ValueError for what is none."""
        ...


class Enveloped:
    """Entries as `AgentState` records, under the partition and the agent's key."""

    def key(self, partition: int, key: bytes) -> bytes:
        """See `Format`."""
        return b"%d|%s" % (partition, key)

    def value(self, partition: int, through: int, state: bytes) -> bytes:
        """See `Format`."""
        return _STATE.encode({"partition": partition, "offset": through, "state": state})

    def read(self, key: bytes, value: bytes) -> tuple[bytes, State]:
        """See `Format`."""
        number, separator, rest = key.partition(b"|")
        if not separator or not number.isdigit():
            raise ValueError("the key is not that of an agent's entry")
        record = _STATE.decode(value)
        return rest, State(record["offset"], record["state"])


class Plain:
    """Entries as the agent gives them."""

    def key(self, partition: int, key: bytes) -> bytes:
        """See `Format`."""
        return key

    def value(self, partition: int, through: int, state: bytes) -> bytes:
        """See `Format`."""
        return state

    def read(self, key: bytes, value: bytes) -> tuple[bytes, State]:
        """See `Format`."""
        return key, State(-1, value)


ENVELOPED: Final = Enveloped()
PLAIN: Final = Plain()


def readable(form: Format, topic: str, partition: int, entries: Mapping[bytes, bytes]) -> dict[bytes, State]:
    """The entries that can be read, by the agent's key. What can't is named in the log, and left alone."""
    found: dict[bytes, State] = {}
    for key, value in entries.items():
        try:
            read, state = form.read(key, value)
        except (SchemaError, ValueError) as error:
            metrics.UNREADABLE_ENTRIES.labels(topic).inc()
            log.error("%s/%d: the entry %r can't be read, and stays: %s", topic, partition, key, error)
            continue
        found[read] = state
    return found
