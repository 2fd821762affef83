"""The steps of an agent: what it is handed and may write, and what is acknowledged when."""

import asyncio
from dataclasses import replace
from typing import cast

import pytest
from faust.types import TP

from clients.kafka.publisher import Message as Sent
from schemas.codec import Codec
from schemas.contract import schema
from schemas.topics import DECISIONS, REQUESTS
from streams.runtime.errors import MovedError
from streams.runtime.ledger import ENVELOPED, Ledger, Worker
from tests.streams.runtime.harness_world import (
    GENERATION,
    WIRING,
    World,
    raising,
)

pytestmark = pytest.mark.usefixtures("in_memory")


# Steps.


async def test_a_fetch_is_taken_and_then_acknowledged(world: World) -> None:
    await world.assign(0, 1)
    await world.seek(0, 0)
    acknowledged: list[list[int]] = []

    async def does(ledger: Ledger) -> None:
        acknowledged.append([*world.acknowledged])

    world.agent.does = does
    await world.hand(0, 0, b"a", b"b")
    await world.hand(0, 2, b"c")
    assert world.agent.told[-2:] == [("step", 0, 0, 0), ("step", 0, 2, 0)]
    assert acknowledged == [[], [1]]
    assert world.acknowledged == [1, 2]


async def test_what_it_writes_says_how_far_it_had_read(world: World) -> None:
    await world.assign(0)
    await world.seek(0, 0)
    world.agent.does = lambda ledger: ledger.write(0, {b"k": b"v", b"gone": None})
    await world.hand(0, 0, b"a", b"b")
    [one, gone] = world.log.records[0]
    assert (one.key, one.value) == (b"0|k", ENVELOPED.value(0, 1, b"v"))
    assert (gone.key, gone.value) == (b"0|gone", None)
    assert world.harness.entry(0, b"0|k") == one.value
    assert world.harness.entry(0, b"0|gone") is None


async def test_it_says_so_after_a_restart_too_though_earlier_records_come_again(world: World) -> None:
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 9, b"v"), (1, 0))
    world.write(0, ENVELOPED.key(0, b"l"), ENVELOPED.value(0, 5, b"v"), (1, 1))
    await world.assign(0, 1)
    world.agent.does = lambda ledger: ledger.write(0, {b"k": b"w"})
    await world.hand(0, 0, b"a")
    assert world.log.records[0][-1].value == ENVELOPED.value(0, 9, b"w")
    await world.harness.write(1, {b"k": b"w"})
    assert world.log.records[1][-1].value == ENVELOPED.value(1, -1, b"w"), "of nothing, nothing was read"


async def test_what_was_acknowledged_before_is_remembered_only(world: World) -> None:
    await world.assign(0)
    world.agent.rewinds = 3
    assert await world.seek(0, 3) == 0
    await world.hand(0, 0, b"a", b"b", b"c")
    await world.hand(0, 3, b"d")
    assert world.agent.told[-2:] == [("step", 0, 0, 3), ("step", 0, 3, 3)]
    assert world.acknowledged == [3]


@pytest.mark.parametrize("case", ["generation", "partition", "unsought"])
async def test_a_fetch_of_a_time_before_is_not_taken(world: World, case: str) -> None:
    await world.assign(0)
    world.consumer.begun = {TP(REQUESTS.name, 0): cast("int", None)} if case == "unsought" else {}
    await world.hand(case == "partition", 0, b"a", generation=GENERATION - (case == "generation"))
    assert (world.agent.steps(), world.acknowledged) == ([], [])


async def test_a_hole_between_fetches_is_fetched_again(world: World) -> None:
    await world.assign(0)
    await world.hand(0, 0, b"a")
    await world.hand(0, 5, b"f")
    assert world.consumer.sought == [(TP(REQUESTS.name, 0), 1)]
    assert (world.agent.steps(), world.acknowledged) == ([(0, 0)], [0])
    world.consumer.begun[TP(REQUESTS.name, 0)] = 9
    await world.assign(0)
    await world.hand(0, 9, b"j")
    assert world.agent.steps() == [(0, 0), (0, 9)], "sought anew, it begins there"


async def test_a_step_whose_partition_has_moved_is_left_and_not_acknowledged(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.hand(0, 0, b"a")
    assert world.acknowledged == []
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.hand(0, 1, b"b")


async def test_while_a_step_is_under_way_it_says_so_and_no_other_begins(world: World) -> None:
    await world.assign(0, 1)
    going_on = asyncio.Event()
    world.agent.does = lambda _: going_on.wait()
    first = asyncio.create_task(world.hand(0, 0, b"a"))
    second = asyncio.create_task(world.hand(1, 0, b"b"))
    await asyncio.sleep(0.01)
    assert world.agent.steps() == [(0, 0)]
    sighting = world.unit.sighting(computing=False)
    assert (sighting.occupied, sighting.doing) == (True, f"a step of {TP(REQUESTS.name, 0)}")
    moves = world.unit.moves()
    going_on.set()
    await asyncio.gather(first, second)
    assert world.agent.steps() == [(0, 0), (1, 0)]
    assert world.unit.moves() > moves
    assert not world.unit.sighting(computing=False).occupied


# An agent that acknowledges for itself.


async def test_at_its_own_pace_it_acknowledges_what_it_has_made_durable() -> None:
    world = World(replace(WIRING, own_pace=True))
    await world.assign(0, 1)
    for first in range(4):
        await world.hand(0, first, b"a")
    assert (len(world.agent.steps()), world.acknowledged) == (4, [])
    await world.harness.acknowledge(0, 1)
    assert world.acknowledged == [1], "one acknowledgement is for all before it"
    await world.harness.acknowledge(0, 1)
    await world.harness.acknowledge(1, 3)
    await world.harness.acknowledge(2, 3)
    assert world.acknowledged == [1]
    await world.harness.acknowledge(0, 100)
    assert world.acknowledged == [1, 3]


async def test_it_goes_on_with_something_meanwhile(world: World) -> None:
    await world.assign(0)
    going_on = asyncio.Event()

    async def work() -> None:
        await going_on.wait()

    world.harness.beside(work())
    await asyncio.sleep(0)
    assert world.unit.sighting(computing=False).doing == "making a step durable"
    going_on.set()
    await asyncio.gather(*world.app.futures)
    assert world.statuses == []


async def test_what_it_goes_on_with_may_move_but_not_fail(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(error: Exception) -> None:
        raise error

    world.harness.beside(failing(MovedError()))
    await asyncio.gather(*world.app.futures)
    assert world.statuses == []
    world.harness.beside(failing(ValueError("no")))
    await asyncio.gather(*world.app.futures)
    assert world.statuses == [70]
    assert "a step of counting failed: ValueError: no" in caplog.messages[-1]


async def test_it_may_ask_how_the_source_is_and_say_what_it_waits_for(world: World) -> None:
    worker = cast("Worker", world.harness)
    await world.assign(0, 1)
    assert worker.source_partitions == 4
    world.consumer.partitions = None
    assert worker.source_partitions == 0, "not known yet"
    assert [worker.caught_up(partition) for partition in (0, 1)] == [False, True]
    with worker.waiting("a price list"):
        assert world.waits() == ["a price list"]
    assert await worker.compute(lambda: world.unit.cpu_clocks() != frozenset()) is True


async def test_it_sends_records_to_topics_and_messages_as_they_are(world: World) -> None:
    record = {"decision_id": "d", "decided_at": 0, "what": "evaluated", "reason": "because"}
    await world.harness.send(DECISIONS, [("k", record)])
    await world.harness.publish([Sent("chat.closed", b"v")])
    [sent, plain] = world.published.messages
    assert (sent.topic, sent.key) == ("chat.decisions", b"k")
    assert Codec(schema("Decision")).decode(sent.value or b"")["reason"] == "because"
    assert plain == Sent("chat.closed", b"v")
