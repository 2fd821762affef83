"""What an agent hears of the clock, and what is looked at meanwhile."""

import asyncio
import logging
from collections.abc import Collection

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP
from prometheus_client import REGISTRY

from schemas.time import SECOND
from schemas.topics import ALERT_STATE, REQUESTS
from streams.runtime import harness as harness_module
from streams.runtime.entries import Entry, Rank, SupersededError
from streams.runtime.errors import MovedError
from streams.runtime.ledger import ENVELOPED, Ledger
from tests.streams.runtime.harness_world import (
    NOW,
    World,
    raising,
)

# The clock.


async def test_the_clock_is_followed_until_the_worker_stops(world: World) -> None:
    await world.assign(0)
    await world.tick(3)
    assert world.agent.told[-3:] == [("tick", NOW)] * 3


async def test_an_agent_without_partitions_hears_nothing_of_it(world: World) -> None:
    following = asyncio.create_task(world.harness.ticking())
    await asyncio.sleep(0.02)
    assert world.ticks() == 0
    world.app.should_stop = True
    await following


async def test_no_tick_comes_into_a_step_and_ticks_are_no_progress(world: World) -> None:
    await world.assign(0)
    moves, seen = world.unit.moves(), []

    async def does(ledger: Ledger) -> None:
        seen.append(world.unit.sighting(computing=False).doing)

    world.agent.does = does
    await world.tick(2)
    assert (set(seen), world.unit.moves()) == ({"following the clock"}, moves)
    going_on = asyncio.Event()
    world.agent.does = lambda _: going_on.wait()
    stepping = asyncio.create_task(world.hand(0, 0, b"a"))
    await asyncio.sleep(0)
    world.app.should_stop = False
    following = asyncio.create_task(world.harness.ticking())
    await asyncio.sleep(0.02)
    assert world.agent.told[-1] == ("step", 0, 0, 0)
    world.app.should_stop = True
    going_on.set()
    await asyncio.gather(stepping, following)


async def test_a_tick_whose_partition_has_moved_is_left_and_one_that_fails_is_not(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.tick(2)
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.tick()


# Watching the changelog.


async def test_the_changelog_is_watched_every_ten_seconds(world: World, clock: list[int]) -> None:
    await world.assign(0)
    await world.tick(3)
    assert world.consumer.asked_for_work == [[TP(REQUESTS.name, 0)]]
    clock[0] += 10 * SECOND - 1
    await world.tick(3)
    assert len(world.consumer.asked_for_work) == 1
    clock[0] += 1
    await world.tick(3)
    assert len(world.consumer.asked_for_work) == 2


async def test_what_another_worker_wrote_is_replaced_then(world: World, clock: list[int]) -> None:
    await world.assign(0)
    await world.harness.write(0, {b"k": b"v"})
    world.write(0, b"0|k", b"zombie", (0, 7))
    await world.tick(2)
    assert world.log.records[0][-1] == Entry(2, b"0|k", ENVELOPED.value(0, -1, b"v"), Rank(1, 1))
    labels = {"table": ALERT_STATE.name}
    assert REGISTRY.get_sample_value("chatgauge_stream_kept_blocks", labels) == 1


async def test_work_that_waits_is_told_to_the_watchdog(world: World, clock: list[int]) -> None:
    await world.assign(0)
    world.consumer.work = True
    moves = world.unit.moves()
    await world.tick()
    assert world.unit.sighting(computing=False).doing == "work waits"
    assert world.unit.sighting(computing=False).occupied
    assert world.unit.moves() == moves + 1, "that it waits is new; to look is no progress"
    world.consumer.work = False
    clock[0] += 10 * SECOND
    await world.tick()
    assert not world.unit.sighting(computing=False).occupied


@pytest.mark.parametrize("error", [KafkaConnectionError("away"), TimeoutError("late")])
async def test_ends_that_are_not_known_now_are_asked_for_later(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.runtime")
    await world.assign(0)
    world.consumer.work = error
    await world.tick(2)
    assert caplog.messages == [f"chat.requests: the ends are not known now: {error}"]


async def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness_module, "_ENDS_WITHIN_S", 0.01)
    await world.assign(0)
    asked = asyncio.Event()

    async def has_work(places: Collection[TP]) -> bool:
        asked.set()
        bounds = {wait.what: wait.bound for wait in world.unit.waits()}
        assert bounds == {"the ends of chat.requests": 0.01}
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(world.consumer, "has_work", has_work)
    await world.tick(2)
    assert asked.is_set()


async def test_a_partition_that_a_later_owner_writes_is_soon_taken_away(
    world: World, clock: list[int]
) -> None:
    await world.assign(0, 1)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    assert not world.changelog.owns(0)
    await world.assign(1)
    clock[0] += 10 * SECOND
    await world.tick()
    assert world.statuses == []


async def test_if_it_is_not_the_worker_ends(world: World, clock: list[int]) -> None:
    await world.assign(0, 1)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    clock[0] += 10 * SECOND
    said = (
        r"chat\.alert-state, partitions \[0\]: a later owner has written, and they are assigned to us still"
    )
    with pytest.raises(SupersededError, match=said):
        await world.tick()


async def test_a_partition_that_came_back_meanwhile_is_judged_anew(world: World, clock: list[int]) -> None:
    await world.assign(0)
    world.write(0, b"0|k", b"theirs", (9, 0))
    await world.tick()
    await world.assign(0)
    clock[0] += 10 * SECOND
    world.write(0, b"0|k", b"theirs", (19, 0))
    await world.tick()
    assert not world.changelog.owns(0)
