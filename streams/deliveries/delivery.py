"""A notification on its way to an endpoint, and how it is kept in the state."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson
import zstandard

from schemas.time import Micros
from streams.deliveries.notification import Notification

_VERSION: Final = 1
_LENGTH: Final = 4
_LARGEST: Final = 1024 * 1024
_PREFIX: Final = b"d"


def digest_of(endpoint_id: str, notification_id: str, redriven: int) -> int:
    """64 bits that stand for a delivery. With ten million remembered, a new one is taken for one of them
    once in two trillion times."""
    text = f"{endpoint_id}\0{notification_id}\0{redriven}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def key_of(digest: int) -> bytes:
    """The key of a delivery's entry in the state."""
    return _PREFIX + b"%016x" % digest


@dataclass(slots=True, eq=False)
class Delivery:
    """One that is not over. Without the notification's body: that is in chat.notifications, at `offset`."""

    partition: int
    offset: int
    digest: int
    endpoint_id: str
    notification_id: str
    redriven: int
    type: str
    created_at: Micros
    accepted_at: Micros
    due_at: Micros
    attempts: int = 0
    """How many were made."""
    under_way: bool = False

    @classmethod
    def of(cls, notification: Notification, partition: int, offset: int, now: Micros) -> "Delivery":
        """A new one, due at once."""
        given = notification
        digest = digest_of(given.endpoint_id, given.notification_id, given.redriven)
        return cls(
            partition,
            offset,
            digest,
            given.endpoint_id,
            given.notification_id,
            given.redriven,
            given.type,
            given.created_at,
            now,
            now,
        )

    @property
    def key(self) -> bytes:
        """Of its entry in the state."""
        return key_of(self.digest)

    @property
    def identity(self) -> tuple[str, str]:
        """What it shares with those that a person has asked for anew."""
        return self.endpoint_id, self.notification_id


class Entry(NamedTuple):
    """What the state has of a delivery."""

    delivery: Delivery
    over: bool
    """No attempt follows; it is kept until its id is remembered elsewhere."""
    concluded_at: Micros
    """When the last attempt was concluded; 0 before the first."""
    packed: bytes = b""
    """The last attempt, as it goes to the log, compressed."""

    @property
    def record(self) -> dict[str, Any] | None:
        """The last attempt, as it goes to the log; None before the first."""
        if not self.packed:
            return None
        told: dict[str, Any] = orjson.loads(zstandard.decompress(self.packed, max_output_size=_LARGEST))
        return told


def is_delivery(key: bytes) -> bool:
    """Whether it is the key of a delivery's entry."""
    return key.startswith(_PREFIX)


def pack(
    delivery: Delivery,
    *,
    over: bool = False,
    concluded_at: Micros = 0,
    record: Mapping[str, Any] | None = None,
) -> bytes:
    """The delivery's entry: some 150 bytes, and the compressed record."""
    head = orjson.dumps(
        [
            _VERSION,
            over,
            delivery.offset,
            delivery.endpoint_id,
            delivery.notification_id,
            delivery.redriven,
            delivery.type,
            delivery.created_at,
            delivery.accepted_at,
            delivery.due_at,
            delivery.attempts,
            concluded_at,
        ]
    )
    told = b"" if record is None else zstandard.compress(orjson.dumps(dict(record)))
    return len(head).to_bytes(_LENGTH, "little") + head + told


def unpack(packed: bytes, partition: int) -> Entry:
    """The entry that `pack` has made."""
    end = _LENGTH + int.from_bytes(packed[:_LENGTH], "little")
    (
        _,
        over,
        offset,
        endpoint_id,
        notification_id,
        redriven,
        type_,
        created_at,
        accepted_at,
        due_at,
        attempts,
        concluded_at,
    ) = orjson.loads(packed[_LENGTH:end])
    delivery = Delivery(
        partition,
        offset,
        digest_of(endpoint_id, notification_id, redriven),
        endpoint_id,
        notification_id,
        redriven,
        type_,
        created_at,
        accepted_at,
        due_at,
        attempts,
    )
    return Entry(delivery, over, concluded_at, packed[end:])
