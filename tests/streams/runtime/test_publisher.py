"""Publishing with patience: what is published again, when it ends, and what is said meanwhile.

Kafka itself is in tests/clients/kafka/test_publisher.py; which messages of several it takes can't be told it.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RequestTimedOutError,
)
from aiokafka.structs import RecordMetadata

from clients.kafka.publisher import Message, PublishError
from clients.kafka.sizes import LARGEST_FETCH
from infra.liveness import Unit
from streams.runtime import publisher
from streams.runtime.errors import MovedError
from streams.runtime.publisher import PatientPublisher

MESSAGES = [Message("chat.in-memory", value, partition=0) for value in (b"a", b"b", b"c", b"d")]


def metadata(offset: int) -> RecordMetadata:
    return RecordMetadata("chat.in-memory", 0, None, offset, 0, 0, 0)


class Flaky:
    """A publisher whose calls end as a script says: with errors, or with what becomes of each message."""

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        self.bootstrap = bootstrap
        self.settings = settings
        self.script: list[Exception | Sequence[RecordMetadata | KafkaError]] = []
        self.asked: list[list[bytes | None]] = []
        self.waits: list[list[tuple[str, float | None]]] = []
        self.unit: Unit
        self.stopped = False

    async def publish(self, messages: Sequence[Message]) -> list[RecordMetadata]:
        self.asked.append([message.value for message in messages])
        self.waits.append([(wait.what, wait.bound) for wait in self.unit.waits()])
        ends = self.script.pop(0) if self.script else [metadata(n) for n in range(len(messages))]
        if isinstance(ends, Exception):
            raise ends
        if any(isinstance(each, KafkaError) for each in ends):
            raise PublishError(ends)
        return [each for each in ends if isinstance(each, RecordMetadata)]

    async def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def unit() -> Unit:
    return Unit("test")


@pytest.fixture
def patient(unit: Unit, monkeypatch: pytest.MonkeyPatch, hurried: None) -> PatientPublisher:
    monkeypatch.setattr(publisher, "Publisher", Flaky)
    patient = PatientPublisher("127.0.0.1:9", unit)
    kafka(patient).unit = unit
    return patient


def kafka(patient: PatientPublisher) -> Flaky:
    assert isinstance(patient._publisher, Flaky)
    return patient._publisher


async def test_what_kafka_takes_at_once_is_published_once(patient: PatientPublisher) -> None:
    kafka(patient).script = [[metadata(offset) for offset in (7, 8, 9, 12)]]
    assert await patient.publish(MESSAGES) == [7, 8, 9, 12]
    assert kafka(patient).asked == [[b"a", b"b", b"c", b"d"]]


async def test_nothing_is_published_without_asking_kafka(patient: PatientPublisher) -> None:
    assert await patient.publish([]) == []
    assert await patient.publish([], wanted=lambda: False) == []
    assert kafka(patient).asked == []


async def test_it_takes_requests_as_large_as_a_fetch(patient: PatientPublisher) -> None:
    assert kafka(patient).bootstrap == "127.0.0.1:9"
    assert kafka(patient).settings == {"max_request_size": LARGEST_FETCH}


async def test_from_the_first_that_failed_on_all_are_published_again_in_their_order(
    patient: PatientPublisher, caplog: pytest.LogCaptureFixture
) -> None:
    away = RequestTimedOutError()
    kafka(patient).script = [
        [metadata(7), metadata(8), away, metadata(9)],
        [metadata(20), away],
        [metadata(30)],
    ]
    assert await patient.publish(MESSAGES) == [7, 8, 20, 30]
    assert kafka(patient).asked == [[b"a", b"b", b"c", b"d"], [b"c", b"d"], [b"d"]]
    assert len(caplog.messages) == 2
    assert caplog.messages[0].startswith(
        "chat.in-memory: not written yet (PublishError: RequestTimedOutError"
    )


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), TimeoutError("late")])
async def test_an_outage_is_waited_for_and_declared_while_it_lasts(
    patient: PatientPublisher, unit: Unit, error: Exception
) -> None:
    kafka(patient).script = [error, error]
    assert await patient.publish(MESSAGES[:1]) == [0]
    attempt = ("the acknowledgement of chat.in-memory", 120.0)
    outage = ("Kafka, to write to chat.in-memory", None)
    assert kafka(patient).waits == [[attempt], [outage, attempt], [outage, attempt]]
    assert unit.waits() == ()
    assert unit.moves() == 1, "an acknowledgement is progress, a failure is none"


async def test_what_can_never_succeed_is_raised_as_what_it_is(patient: PatientPublisher) -> None:
    kafka(patient).script = [[metadata(7), MessageSizeTooLargeError("17 MiB"), RequestTimedOutError()]]
    with pytest.raises(MessageSizeTooLargeError, match="17 MiB"):
        await patient.publish(MESSAGES[:3])
    assert len(kafka(patient).asked) == 1


@pytest.mark.parametrize("error", [MessageSizeTooLargeError("17 MiB"), ValueError("no bytes")])
async def test_so_is_an_error_before_anything_was_sent(patient: PatientPublisher, error: Exception) -> None:
    kafka(patient).script = [error]
    with pytest.raises(type(error), match=str(error.args[0])):
        await patient.publish(MESSAGES)
    assert len(kafka(patient).asked) == 1


async def test_what_is_not_wanted_any_more_is_not_published_again(patient: PatientPublisher) -> None:
    wanted = [True, False]
    kafka(patient).script = [RequestTimedOutError()]
    several = [Message("chat.first", b"a"), *MESSAGES, Message("chat.last", b"z")]
    with pytest.raises(MovedError, match=r"^chat\.first$"):
        await patient.publish(several, lambda: len(kafka(patient).asked) == 0 or wanted.pop())
    assert len(kafka(patient).asked) == 1


async def test_nor_is_what_was_not_wanted_from_the_beginning(patient: PatientPublisher) -> None:
    with pytest.raises(MovedError):
        await patient.publish(MESSAGES, lambda: False)
    assert kafka(patient).asked == []


async def test_it_stops_what_it_publishes_with(patient: PatientPublisher) -> None:
    async with asyncio.timeout(10):
        await patient.stop()
    assert kafka(patient).stopped
