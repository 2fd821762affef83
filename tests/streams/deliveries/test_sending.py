"""Attempts in tasks of their own: none waits for another, results are durable at once, nothing is hurried."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from schemas import topics
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import SECOND, clock
from schemas.topics import Topic
from streams.deliveries.bodies import Bodies
from streams.deliveries.channel import Response
from streams.deliveries.endpoint_queue import Target
from streams.deliveries.notification import Notification
from streams.deliveries.outbox import Outbox, Policy
from streams.deliveries.schedule import Schedule
from streams.deliveries.sending import Sending
from streams.endpoints.endpoint import Endpoint
from streams.runtime.errors import MovedError
from tests.streams.deliveries.outboxes import BROKEN, OK, notification, target

_CODEC = Codec(schema("Notification"))


class Kept:
    """A ledger in memory: what was written, and sent. `moved` refuses to write."""

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.log: list[Mapping[str, Any]] = []
        self.moved = False

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        await asyncio.sleep(0)
        if self.moved:
            raise MovedError("moved")
        self.entries |= {key: entry for key, entry in entries.items() if entry is not None}

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        assert topic is topics.DELIVERIES
        await asyncio.sleep(0)
        self.log += [record for _, record in records]


class Gated:
    """A channel that answers for an endpoint when it is let."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.answers: dict[str, Response] = {}
        self.sent: list[tuple[str, int]] = []
        self.cancelled = 0

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        self.sent.append((notification.notification_id, attempt))
        try:
            await self.gates.setdefault(endpoint.id, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.answers.get(endpoint.id, OK)

    async def close(self) -> None:
        pass

    def open(self, endpoint_id: str) -> None:
        self.gates.setdefault(endpoint_id, asyncio.Event()).set()


class Desk:
    """Sending, with its surroundings."""

    def __init__(self, **targets: Target) -> None:
        self.targets = targets or {"hook": target(), "dead": target("dead")}
        self.policy = Policy(schedule=Schedule((SECOND // 100,) * 3, jitter=0))
        self.ledger, self.channel = Kept(), Gated()
        self.bodies = Bodies("nowhere:1", topics.NOTIFICATIONS, 1 << 20)
        self.sending = Sending({"webhook": self.channel}, self.bodies, self.ledger)
        self.offset = 0
        self.restart()

    def restart(self) -> None:
        """As after a rebalance."""
        self.outbox = Outbox(self.policy)
        self.outbox.aim(self.targets, clock())
        self.outbox.restore(0, self.ledger.entries, clock(), self.sending.under_way)
        self.sending.take_over(self.outbox)

    async def accept(self, *notifications: Notification) -> None:
        arrived = [(self.offset + i, each) for i, each in enumerate(notifications)]
        self.offset += len(arrived)
        for offset, each in arrived:
            self.bodies.put((0, offset), _CODEC.encode(each.record()))
        accepted = self.outbox.accept(0, arrived, clock())
        await self.ledger.write(0, accepted.entries())
        self.outbox.opened(accepted.opened)
        self.sending.wake()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def outcomes(self) -> list[tuple[str, int, str]]:
        return [(each["notification_id"], each["attempt"], each["outcome"]) for each in self.ledger.log]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await desk.sending.stop(0)
    await desk.bodies.stop()


async def test_an_endpoint_that_hangs_delays_no_other(desk: Desk) -> None:
    desk.channel.open("hook")
    await desk.accept(*(notification(number, "dead") for number in range(10)))
    await desk.accept(*(notification(number) for number in range(10, 30)))
    await desk.until(lambda: len(desk.ledger.log) == 20)
    assert {id_ for id_, _, _ in desk.outcomes()} == {f"n{number}" for number in range(10, 30)}
    hanging = {f"n{number}" for number in range(10)}
    assert len(hanging & {id_ for id_, _ in desk.channel.sent}) == 4


async def test_what_fails_is_tried_again_by_the_schedule(desk: Desk) -> None:
    desk.channel.open("hook")
    desk.channel.answers["hook"] = BROKEN
    await desk.accept(notification(1))
    await desk.until(lambda: len(desk.ledger.log) == 4)
    assert [outcome for *_, outcome in desk.outcomes()] == ["failed", "failed", "failed", "exhausted"]
    assert desk.channel.sent == [("n1", 1), ("n1", 2), ("n1", 3), ("n1", 4)]


async def test_a_request_outlives_a_rebalance_and_is_recorded_after_it(desk: Desk) -> None:
    await desk.accept(notification(1))
    await desk.until(lambda: desk.channel.sent)
    desk.sending.pause()
    desk.ledger.moved = True
    desk.channel.open("hook")
    await asyncio.sleep(0.02)
    assert desk.ledger.log == []
    desk.ledger.moved = False
    desk.restart()
    await desk.until(lambda: desk.ledger.log)
    assert desk.outcomes() == [("n1", 1, "delivered")]
    assert desk.channel.sent == [("n1", 1)]
    assert desk.outbox.under_way == 0


async def test_a_result_that_could_not_be_written_any_more_is_written_once_the_partition_is_back(
    desk: Desk,
) -> None:
    await desk.accept(notification(1))
    await desk.until(lambda: desk.channel.sent)
    desk.ledger.moved = True
    desk.channel.open("hook")
    desk.sending.pause()
    await asyncio.sleep(0.02)
    desk.ledger.moved = False
    desk.restart()
    await desk.until(lambda: desk.ledger.log)
    assert desk.outcomes() == [("n1", 1, "delivered")]


async def test_a_request_for_a_partition_that_went_elsewhere_is_broken_off(desk: Desk) -> None:
    await desk.accept(notification(1))
    await desk.until(lambda: desk.channel.sent)
    desk.sending.pause()
    desk.ledger.entries.clear()
    desk.restart()
    await desk.until(lambda: desk.channel.cancelled == 1)
    assert desk.ledger.log == []


async def test_stopping_waits_for_what_is_under_way_and_begins_nothing_more(desk: Desk) -> None:
    await desk.accept(*(notification(number) for number in range(9)))
    await desk.until(lambda: len(desk.channel.sent) == 4)
    stopping = asyncio.create_task(desk.sending.stop(5))
    await asyncio.sleep(0.02)
    desk.channel.open("hook")
    await stopping
    assert len(desk.channel.sent) == 4
    assert [outcome for *_, outcome in desk.outcomes()] == ["delivered"] * 4


async def test_stopping_does_not_wait_longer_than_it_is_told(desk: Desk) -> None:
    await desk.accept(notification(1))
    await desk.until(lambda: desk.channel.sent)
    began = clock()
    await desk.sending.stop(0.05)
    assert clock() - began < SECOND
    assert desk.channel.cancelled == 1


async def test_a_channel_that_breaks_is_a_failed_attempt(desk: Desk) -> None:
    class Broken(Gated):
        async def send(self, *_: Any) -> Response:
            raise ValueError("oh")

    await desk.sending.stop(0)
    desk.sending = Sending({"webhook": Broken()}, desk.bodies, desk.ledger)
    desk.restart()
    await desk.accept(notification(1))
    await desk.until(lambda: desk.ledger.log)
    assert desk.ledger.log[0]["error"] == "ValueError: oh"
    await desk.sending.stop(0)


async def test_what_goes_wrong_in_writing_is_not_kept_quiet(desk: Desk) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("the disk is on fire")

    desk.ledger.send = fail  # type: ignore[method-assign]
    desk.channel.open("hook")
    await desk.accept(notification(1))
    await desk.until(lambda: desk.sending._failure is not None)
    with pytest.raises(RuntimeError, match="on fire"):
        desk.sending.check()
