"""Taking a changelog's partition over, and keeping it over a rebalance: what is read and claimed."""

import asyncio
from contextlib import suppress

import pytest

from streams.runtime.changelog import Changelog
from streams.runtime.entries import UNCLAIMED, Claim, Since
from streams.runtime.errors import LogUnavailableError, MovedError
from tests.streams.runtime.memory_log import (
    TOPIC,
    Gate,
    MemoryLog,
    calling,
    encoded,
    held,
    owning,
    raising,
    restored,
)

# Taking over.


async def test_what_was_written_since_the_recovery_is_read_and_then_the_claim_is_made() -> None:
    log = MemoryLog(("k", "v", (1, 0)), ("l", "v", (1, 1)))
    changelog = Changelog(log)
    assert changelog.topic == TOPIC
    assert changelog.expect({3: Claim(1, 0)}) == {3}
    changelog.recover(3, log.records[:1], 1)
    assert (held(changelog), len(changelog), changelog.owns(3)) == ({"k": "v"}, 1, False)

    await changelog.take_over(3)

    assert log.done == ["end", "read 1 2", "owner: epoch 2 since 2"]
    assert (held(changelog), len(changelog), changelog.owns(3)) == ({"k": "v", "l": "v"}, 2, True)


async def test_nothing_is_read_again_if_everything_was_recovered() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(1, 0)})
    changelog.recover(3, log.records, 1)
    await changelog.take_over(3)
    assert log.done == ["end", "owner: epoch 2 since 1"]


async def test_the_end_of_the_recovery_counts_though_compaction_has_left_a_gap_there() -> None:
    log = MemoryLog(("k", "v", (1, 0)), ("l", "v", (1, 1)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(1, 0)})
    changelog.recover(3, [], 2)
    changelog.recover(3, [], 1)
    await changelog.take_over(3)
    assert log.done == ["end", "owner: epoch 2 since 2"]


async def test_what_is_outdated_is_written_again_between_two_claims(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 7)), ("gone", "zombie", (1, 8)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    before = restored()

    await changelog.take_over(3)

    assert log.done == [
        "end",
        "read 0 3",
        "owner: epoch 3 since 3 after epoch 2 since 0",
        "append 2",
        "owner: epoch 3 since 3",
    ]
    assert log.landed(3) == [("k", "v", (3, 0)), ("gone", None, (3, 1))]
    assert held(changelog) == {"k": "v"}
    assert restored() == before + 2
    assert caplog.messages == [
        "chat.in-memory/3: 2 entries were overwritten by a worker that had lost them, or may not have been"
        " written, and are restored"
    ]


async def test_what_lands_while_it_is_written_again_is_repelled() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 7)))
    log.before["append"] = calling(log.land, "k", "zombie", (1, 8))
    await owning(log, Claim(2, 0))
    assert log.landed(2) == [("k", "zombie", (1, 8)), ("k", "v", (3, 0)), ("k", "v", (3, 1))]


async def test_without_anybody_having_claimed_there_is_nothing_to_complete() -> None:
    log = MemoryLog(("k", "new", (1, 1)), ("k", "old", (1, 0)))
    await owning(log)
    assert log.claims == [Claim(2, 2)]
    assert log.landed(2) == [("k", "new", (2, 0))]


async def test_a_partition_that_is_not_expected_is_not_taken_over_nor_recovered() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = Changelog(log)
    changelog.recover(3, log.records, 1)
    with pytest.raises(MovedError, match=r"chat\.in-memory, partition 3"):
        await changelog.take_over(3)
    assert (held(changelog), log.done) == ({}, [])


async def test_a_refused_claim_owns_nothing() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    log.before["owner:"] = raising(MovedError("the group has a newer generation"))
    with pytest.raises(MovedError, match="newer generation"):
        await owning(log, Claim(2, 0))
    assert log.landed(2) == []


@pytest.mark.parametrize("method", ["end", "read", "owner:"])
async def test_while_kafka_is_away_nothing_is_owned_and_it_can_be_tried_again(method: str) -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    log.before[method] = raising(LogUnavailableError("away"))
    with pytest.raises(LogUnavailableError):
        await changelog.take_over(3)
    assert not changelog.owns(3)

    await changelog.take_over(3)

    assert changelog.owns(3)
    assert log.landed(2) == [("k", "v", (3, 0))]
    assert log.claims == [Claim(3, 2, Since(2, 0)), Claim(3, 2)]


async def test_it_can_be_tried_again_after_the_claim_too() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    log.before["append"] = raising(LogUnavailableError("away"))
    with pytest.raises(LogUnavailableError):
        await changelog.take_over(3)
    assert not changelog.owns(3)
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(k="w"))

    await changelog.take_over(3)

    assert log.claims == [Claim(3, 2, Since(2, 0)), Claim(4, 2, Since(2, 0)), Claim(4, 2)]
    assert log.landed(2) == [("k", "v", (4, 0))]


@pytest.mark.parametrize("method", ["end", "read", "owner:"])
@pytest.mark.parametrize("event", ["release", "expect"])
async def test_a_take_over_that_a_rebalance_overtakes_owns_nothing(method: str, event: str) -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: UNCLAIMED})
    log.before[method] = (
        calling(changelog.release) if event == "release" else calling(changelog.expect, {3: UNCLAIMED})
    )
    with pytest.raises(MovedError, match="another rebalance"):
        await changelog.take_over(3)
    assert not changelog.owns(3)
    assert len(log.claims) == (method == "owner:")
    if event == "expect":
        assert held(changelog) == {}, "what was read is of the recovery before"


async def test_a_rebalance_that_comes_while_entries_are_restored_leaves_the_claim_incomplete() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    log.before["append"] = calling(changelog.release)
    with pytest.raises(MovedError):
        await changelog.take_over(3)
    assert not changelog.owns(3)
    assert log.claims == [Claim(3, 2, Since(2, 0))]

    assert changelog.expect({3: log.claims[-1]}) == set(), "it goes on from there"
    await changelog.take_over(3)

    assert log.landed(2) == [("k", "v", (4, 0))]
    assert log.claims[1:] == [Claim(4, 2, Since(2, 0)), Claim(4, 2)]


async def test_a_rebalance_that_comes_while_the_claim_is_completed_owns_nothing() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    log.after["append"] = calling(log.before.__setitem__, "owner:", calling(changelog.release))
    with pytest.raises(MovedError):
        await changelog.take_over(3)
    assert not changelog.owns(3)
    assert log.claims[-1] == Claim(3, 2), "it is complete all the same"


async def test_whoever_is_cancelled_in_the_midst_of_taking_over_owns_nothing() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = Changelog(log)
    changelog.expect({3: Claim(2, 0)})
    log.before["append"] = gate = Gate()
    taking = asyncio.create_task(changelog.take_over(3))
    await gate.reached.wait()
    assert changelog.owns(3), "to restore, it has to"
    taking.cancel()
    with suppress(asyncio.CancelledError):
        await taking
    assert not changelog.owns(3)


async def test_two_claims_of_one_process_are_never_of_the_same_epoch() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log, Claim(1, 0))
    assert changelog.expect({3: Claim(1, 0)}) == {3}, "the new note is not seen yet"
    await changelog.take_over(3)
    assert log.claims == [Claim(2, 1), Claim(3, 1)]


# Keeping a partition over a rebalance.


async def test_what_this_worker_owned_last_is_not_read_again() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    await changelog.write(3, encoded(l="v"))
    log.done.clear()

    assert changelog.expect({3: log.claims[-1], 4: UNCLAIMED}) == {4}
    assert not changelog.owns(3)
    changelog.recover(3, log.records, 2)
    await changelog.take_over(3)

    assert log.done == ["end", "owner: epoch 3 since 2"]
    assert held(changelog) == {"k": "v", "l": "v"}


@pytest.mark.parametrize("claim", [UNCLAIMED, Claim(2, 2), Claim(3, 1), Claim(2, 1, Since(1, 0))])
async def test_it_is_read_whole_if_the_claim_on_record_is_another(claim: Claim) -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    assert log.claims == [Claim(2, 1)]
    assert changelog.expect({3: claim}) == {3}
    assert held(changelog) == {}


async def test_a_partition_that_was_never_owned_is_read_whole() -> None:
    changelog = Changelog(MemoryLog())
    changelog.expect({3: Claim(2, 1)})
    assert changelog.expect({3: Claim(2, 1)}) == {3}


async def test_a_partition_that_went_elsewhere_is_forgotten() -> None:
    changelog = await owning(MemoryLog(("k", "v", (1, 0))))
    changelog.expect({})
    assert (len(changelog), held(changelog)) == (0, {})


async def test_what_came_meanwhile_is_overwritten() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    changelog.expect({3: log.claims[-1]})
    log.land("k", "zombie", (1, 5))
    log.land("l", "zombie", None)
    await changelog.take_over(3)
    assert log.landed(3) == [("k", "v", (3, 0)), ("l", None, (3, 1))]


async def test_what_kafka_may_not_have_is_written_before_anything_builds_on_it() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.before["append"] = calling(changelog.release)
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(k="w"))
    assert log.landed(1) == []

    changelog.expect({3: log.claims[-1]})
    await changelog.take_over(3)

    assert held(changelog) == {"k": "w"}
    assert log.landed(1) == [("k", "w", (3, 0))]


async def test_what_lands_after_the_partition_was_released_is_not_taken_for_written() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.after["append"] = calling(changelog.release)
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(k="w"))
    assert log.landed(1) == [("k", "w", (2, 0))]

    changelog.expect({3: log.claims[-1]})
    await changelog.take_over(3)

    assert log.landed(2) == [("k", "w", (3, 0))]


async def test_what_lands_while_the_partition_is_taken_over_again_is_not_taken_for_written() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.before["land"] = gate = Gate()
    writing = asyncio.create_task(changelog.write(3, encoded(k="w")))
    await gate.reached.wait()
    changelog.expect({3: log.claims[-1]})

    async def landing() -> None:
        gate.open.set()
        with pytest.raises(MovedError):
            await writing

    log.before["owner:"] = landing
    await changelog.take_over(3)

    assert log.claims[1] == Claim(3, 1, Since(2, 1)), "what lands is past the new claim"
    assert log.landed(1) == [("k", "w", (2, 0)), ("k", "w", (3, 0)), ("k", "w", (3, 1))]


async def test_a_claim_that_was_completed_is_the_one_on_record() -> None:
    log = MemoryLog(("k", "v", (2, 0)), ("k", "zombie", (1, 0)))
    changelog = await owning(log, Claim(2, 0))
    assert changelog.expect({3: Claim(3, 2)}) == set()
