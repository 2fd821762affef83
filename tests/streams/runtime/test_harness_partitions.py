"""Which partitions are an agent's own, what it is told of them, and how it is wired."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest
from faust.types import TP
from prometheus_client import REGISTRY

from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.topics import ALERT_STATE, REQUESTS
from streams.runtime import harness as harness_module
from streams.runtime.entries import Claim
from streams.runtime.errors import MovedError
from streams.runtime.harness import build, run
from streams.runtime.ledger import ENVELOPED, Ledger, State
from streams.runtime.transport import BatchTransport
from tests.streams.runtime.harness_world import (
    GENERATION,
    NOW,
    WIRING,
    Agent,
    World,
    raising,
)

pytestmark = pytest.mark.usefixtures("in_memory")


# Which partitions are its own.


async def test_until_the_group_has_given_it_partitions_it_waits_and_says_so(world: World) -> None:
    group = "the consumer group chatgauge-counting, to be given partitions"
    assert (world.waits(), world.unit.is_started) == ([group], False)
    await world.harness.expect(frozenset({0, 1}))
    assert (world.waits(), world.unit.is_started) == ([], False)
    await world.harness.restore()
    assert (world.waits(), world.unit.is_started) == ([], True)
    world.harness.forget()
    world.harness.forget()
    assert (world.waits(), world.unit.is_started) == ([group], False)
    await world.harness.expect(frozenset())
    assert world.waits() == []


async def test_a_table_below_recovers_into_the_changelog_and_for_its_unit(world: World) -> None:
    assert (world.table.changelog, world.table.unit) == (world.changelog, world.unit)
    assert (world.published.unit, world.published.bootstrap) == (world.unit, "127.0.0.1:9")


async def test_what_was_not_this_workers_last_is_read_whole(world: World) -> None:
    assert await world.harness.expect(frozenset({0, 1})) == {0, 1}
    await world.harness.restore()
    assert await world.harness.expect(frozenset({0, 1, 2})) == {2}
    world.consumer.notes[TP(REQUESTS.name, 1)] = Claim(9, 0).note()
    assert await world.harness.expect(frozenset({0, 1})) == {1}


async def test_its_state_is_what_lies_in_the_changelog_partition_by_partition(world: World) -> None:
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 7, b"older"), (1, 0))
    world.write(0, ENVELOPED.key(0, b"k"), ENVELOPED.value(0, 9, b"newer"), (1, 1))
    world.write(0, ENVELOPED.key(0, b"l"), ENVELOPED.value(0, 8, b"l"), (1, 2))
    await world.assign(0, 1)
    assert world.agent.states == {0: {b"k": State(9, b"newer"), b"l": State(8, b"l")}, 1: {}}
    assert world.agent.now == NOW
    assert world.agent.told == ["forget", "begin", "restore", "resume"]
    labels = {"table": ALERT_STATE.name}
    assert REGISTRY.get_sample_value("chatgauge_stream_kept_blocks", labels) == 2


async def test_a_claim_is_committed_with_the_source_before_anything_is_taken_up(world: World) -> None:
    world.write(0, b"foreign", b"x", (1, 0))
    await world.assign(0, 1)
    notes = {tp: Claim.read(note) for tp, note in world.consumer.notes.items()}
    assert notes == {TP(REQUESTS.name, 0): Claim(2, 1), TP(REQUESTS.name, 1): Claim(1, 0)}


async def test_it_begins_once_and_what_it_waits_for_then_is_said(world: World) -> None:
    waits: list[str] = []

    async def does(ledger: Ledger) -> None:
        waits.extend(world.waits())

    world.agent.does = does
    await world.assign(0)
    await world.assign(0)
    assert [each for each in world.agent.told if each == "begin"] == ["begin"]
    assert waits == ["what counting has to know to begin"]


async def test_a_partition_that_is_refused_is_not_taken_up_nor_are_those_beside_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streams.runtime")
    world.consumer.refuses = {1}
    await world.assign(0, 1)
    assert "restore" not in world.agent.told
    assert not world.unit.is_started
    refused = "chat.requests, partition 1: the group has a newer generation"
    assert caplog.messages == [f"counting: {refused}; another rebalance is under way"]
    world.consumer.refuses = set()
    await world.assign(0, 1)
    assert set(world.agent.states) == {0, 1}


async def test_while_kafka_is_away_it_tries_again_and_says_what_it_waits_for(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[list[str]] = []
    world.log.unavailable = 2
    world.log.waits = lambda: waits.append(world.waits())
    await world.assign(0)
    assert waits == [["Kafka, to take over chat.alert-state/0"]] * 3
    assert set(world.agent.states) == {0}
    assert [each.split("; ")[0] for each in caplog.messages] == [
        "chat.alert-state/0 is not taken over yet: away"
    ] * 2
    assert "attempt 2 in" in caplog.messages[0]


async def test_it_does_not_try_again_once_the_group_has_a_newer_generation(world: World) -> None:
    world.log.unavailable = 100
    world.log.waits = lambda: setattr(world.app, "consumer_generation_id", GENERATION + 1)
    async with asyncio.timeout(10):
        await world.assign(0)
    assert world.log.unavailable == 99
    assert "restore" not in world.agent.told


async def test_what_fails_while_partitions_are_taken_over_is_not_passed_over(world: World) -> None:
    world.log.waits = lambda: [][0]
    with pytest.raises(ExceptionGroup) as failed:
        await world.assign(0)
    assert isinstance(failed.value.exceptions[0], IndexError)


async def test_a_partition_that_moves_while_it_resumes_is_no_failure(world: World) -> None:
    await world.assign(0)
    world.agent.does = raising(MovedError())
    await world.assign(0)
    assert world.agent.told[-1] == "resume"
    assert world.unit.is_started
    world.agent.does = raising(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await world.assign(0)


async def test_partitions_that_go_away_are_forgotten(world: World) -> None:
    await world.assign(0)
    await world.seek(0, 0)
    world.harness.forget()
    assert world.agent.told[-1] == "forget"
    with pytest.raises(MovedError, match=r"chat\.alert-state, partition 0"):
        await world.harness.write(0, {b"k": b"v"})
    assert not world.changelog.owns(0)
    await world.hand(0, 0, b"a")
    assert world.agent.steps() == []


# Where it reads from.


async def test_it_says_itself_from_where_it_reads_a_partition_of_its_own(world: World) -> None:
    await world.assign(0)
    world.agent.rewinds = 3
    assert world.harness.reading_from(TP(REQUESTS.name, 0), 10) == 7
    assert world.agent.told[-1] == ("reading", 0, 10)
    assert world.harness.reading_from(TP(REQUESTS.name, 1), 10) == 10
    assert world.agent.told[-1] == ("reading", 0, 10), "of another it is not asked"


# Beginning and ending.


async def test_when_the_worker_stops_the_agent_ends_and_all_is_sent(world: World) -> None:
    await world.harness.end()
    assert world.agent.told == ["end"]
    assert world.published.stopped


async def test_an_agent_is_wired_to_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    part = Part("test")
    wiring = replace(WIRING, min_bytes=123, max_fetch=45)
    kafka = KafkaSettings(bootstrap="127.0.0.1:9", max_unpacked_bytes=33 * 1024 * 1024)
    app = build(Agent(), wiring, kafka, part)
    transport = app.transport
    assert isinstance(transport, BatchTransport)
    assert [str(url) for url in transport.url] == ["kafka://127.0.0.1:9"]
    batching = transport.batching
    assert (batching.sources, batching.changelogs) == ({REQUESTS.name}, {ALERT_STATE.name})
    assert (batching.linger, batching.min_bytes) == (timedelta(milliseconds=20), 123)
    assert batching.most_bytes == 33 * 1024 * 1024
    assert transport.part is part
    assert (app.conf.id, app.conf.topic_partitions) == ("chatgauge-counting", 4)
    assert app.conf.broker_max_poll_records == 45
    assert [unit.name for unit in part.units()] == ["counting"]
    assert app.tables["chat-alert-state"].partitions == 4
    assert app.agents["counting"].channel.get_topic_name() == REQUESTS.name
    alone = cast("BatchTransport", build(Agent(), wiring, kafka).transport)
    assert alone.part.name == "counting"


async def test_several_agents_are_units_of_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[Part, list[str]]] = []
    monkeypatch.setattr(
        harness_module.application,
        "run",
        lambda part, *apps: ran.append((part, [app.conf.id for app in apps])),
    )
    kafka = KafkaSettings(bootstrap="127.0.0.1:9")
    agents = [(Agent(), WIRING), (Agent(), replace(WIRING, name="other"))]
    run(agents, kafka, part := Part("test"))
    run(agents, kafka)
    ids = ["chatgauge-counting", "chatgauge-other"]
    assert [(each.name, there) for each, there in ran] == [("test", ids), ("agents", ids)]
    assert [unit.name for unit in part.units()] == ["counting", "other"]
