"""What an agent leaves behind: its state, in the changelog of its table, and records on other topics."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from aiokafka.errors import KafkaError

from clients.kafka.producers import OnDemandProducer
from clients.kafka.sizes import LARGEST_FETCH
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import Topic

log = logging.getLogger(__name__)

_AGAIN_S: Final = 1.0
_STATE: Final = Codec(schema("AgentState"))


class MovedError(Exception):
    """The partition belongs to another worker by now: nothing may be written for it."""


class State(NamedTuple):
    """An entry of an agent's state."""

    offset: int
    """Everything up to this offset of the source was in it when it was written."""
    state: bytes


class Ledger(Protocol):
    """Where an agent writes. Both methods return when Kafka has everything; while it is away, they wait."""

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """Entries of the partition's state by key; None deletes one. Not atomic across entries.

        Raises MovedError when the partition is not ours any more.
        """
        ...

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Records (key, Avro record) to a topic; those of a key stay in order."""
        ...


class KafkaLedger:
    """Writes to Kafka, and keeps the state's entries in memory as they are in the changelog.

    `table` holds encoded entries by encoded key; `through` says up to which offset a partition that is ours
    has been taken, None for one that is not.
    """

    def __init__(
        self,
        bootstrap: str,
        state: Topic,
        table: MutableMapping[bytes, bytes],
        through: Callable[[int], int | None],
    ) -> None:
        self._state = state
        self._table = table
        self._through = through
        self._codecs: dict[str, Codec] = {}
        self._producer = OnDemandProducer(bootstrap, max_request_size=LARGEST_FETCH)

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        """As in `Ledger`."""
        messages: list[tuple[int | None, bytes, bytes | None]] = []
        through = self._through(partition)
        if through is None:
            raise MovedError(f"{self._state.name}, partition {partition}")
        for key, state in entries.items():
            entry_key = encode_key(partition, key)
            if state is None:
                self._table.pop(entry_key, None)
                messages.append((partition, entry_key, None))
                continue
            value = _STATE.encode({"partition": partition, "offset": through, "state": state})
            self._table[entry_key] = value
            messages.append((partition, entry_key, value))
        await self._produce(self._state, messages, lambda: self._through(partition) is not None)

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """As in `Ledger`."""
        codec = self._codecs.setdefault(topic.name, Codec(schema(topic.record)))
        await self._produce(
            topic, [(None, key.encode(), codec.encode(record)) for key, record in records], lambda: True
        )

    async def stop(self) -> None:
        """Send what waits, and leave."""
        with contextlib.suppress(KafkaError):
            await self._producer.stop()

    async def _produce(
        self,
        topic: Topic,
        messages: Sequence[tuple[int | None, bytes, bytes | None]],
        wanted: Callable[[], bool],
    ) -> None:
        """Send the messages (partition, key, value), those that fail again and in their order."""
        left = list(messages)
        while left:
            if not wanted():
                raise MovedError(topic.name)
            try:
                producer = await self._producer.started()
                sent: list[Awaitable[Any]] = [
                    await producer.send(topic.name, value, key=key, partition=partition)
                    for partition, key, value in left
                ]
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
            except KafkaError as error:
                failed = error
            else:
                failures = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, BaseException)]
                if not failures:
                    return
                failed = outcomes[failures[0]]
                if not isinstance(failed, KafkaError):
                    raise failed
                left = left[failures[0] :]  # those behind it too: the order of a key must stay
            if not getattr(failed, "retriable", False) and not isinstance(failed, OSError):
                raise failed
            log.warning("%s: not written yet (%s: %s)", topic.name, type(failed).__name__, failed)
            await asyncio.sleep(_AGAIN_S)


def encode_key(partition: int, key: bytes) -> bytes:
    """The key of an entry in the table and its changelog."""
    return b"%d|%s" % (partition, key)


def decode_key(key: bytes) -> tuple[int, bytes]:
    """Partition and key of an entry."""
    partition, _, rest = key.partition(b"|")
    return int(partition), rest


def is_older(value: bytes, known: bytes | None) -> bool:
    """Whether an entry is of less of the source than the one that is known."""
    return known is not None and decode_state(value).offset < decode_state(known).offset


def decode_state(value: bytes) -> State:
    """An entry. Raises RefusedError for what is none."""
    record = _STATE.decode(value)
    return State(record["offset"], record["state"])
