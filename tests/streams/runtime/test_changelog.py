"""Owning a changelog's partition: what is read and written, in which order, and what ends it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import REGISTRY

from streams.runtime.changelog import Changelog, Write
from streams.runtime.entries import UNCLAIMED, Claim, Entry, Rank, Since
from streams.runtime.errors import LogUnavailableError, MovedError

TOPIC = "chat.in-memory"
Hook = Callable[[], Awaitable[None]]


class MemoryLog:
    """One partition, 3. `done` tells what was asked of it; a hook runs before a method has its effect."""

    topic = TOPIC

    def __init__(self, *records: tuple[str, str | None, tuple[int, int] | None]) -> None:
        self.records: list[Entry] = []
        for key, value, rank in records:
            self.land(key, value, rank)
        self.done: list[str] = []
        self.claims: list[Claim] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}

    def land(self, key: str, value: str | None, rank: tuple[int, int] | None) -> None:
        encoded = None if value is None else value.encode()
        offset = len(self.records)
        self.records.append(Entry(offset, key.encode(), encoded, None if rank is None else Rank(*rank)))

    def landed(self, since: int = 0) -> list[tuple[str, str | None, tuple[int, int] | None]]:
        return [
            ((one.key or b"").decode(), None if one.value is None else one.value.decode(), one.rank)
            for one in self.records[since:]
        ]

    async def end(self, partition: int) -> int:
        await self._reached(partition, "end")
        return len(self.records)

    async def read(self, partition: int, begin: int, end: int) -> Sequence[Entry]:
        await self._reached(partition, f"read {begin} {end}")
        return self.records[begin:end]

    async def append(
        self, partition: int, writes: Sequence[Write], wanted: Callable[[], bool]
    ) -> Sequence[int]:
        await self._reached(partition, f"append {len(writes)}")
        if not wanted():
            raise MovedError(TOPIC)
        if (hook := self.before.pop("land", None)) is not None:
            await hook()
        begin = len(self.records)
        self.records += [Entry(begin + i, *write) for i, write in enumerate(writes)]
        if (hook := self.after.pop("append", None)) is not None:
            await hook()
        return range(begin, begin + len(writes))

    async def claim(self, partition: int, claim: Claim) -> None:
        await self._reached(partition, claim.note())
        self.claims.append(claim)

    async def _reached(self, partition: int, what: str) -> None:
        assert partition == 3
        self.done.append(what)
        if (hook := self.before.pop(what.split()[0], None)) is not None:
            await hook()


def raising(error: Exception) -> Hook:
    async def hook() -> None:
        raise error

    return hook


def calling(what: Callable[..., Any], *arguments: Any) -> Hook:
    async def hook() -> None:
        what(*arguments)

    return hook


class Gate:
    """A hook that says when it is reached, and waits to be opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.open.wait()


def encoded(**entries: str | None) -> Mapping[bytes, bytes | None]:
    return {key.encode(): None if value is None else value.encode() for key, value in entries.items()}


def held(changelog: Changelog) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in changelog.entries(3).items()}


async def owning(log: MemoryLog, claim: Claim = UNCLAIMED) -> Changelog:
    """A changelog that has just taken over the partition."""
    changelog = Changelog(log)
    changelog.expect({3: claim})
    changelog.recover(3, list(log.records), len(log.records))
    await changelog.take_over(3)
    log.done.clear()
    return changelog


def restored() -> float:
    return REGISTRY.get_sample_value("chatgauge_stream_foreign_writes_total", {"table": TOPIC}) or 0.0


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


# Writing.


async def test_entries_are_written_each_with_its_rank() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    await changelog.write(3, encoded(k="v", l="v"))
    await changelog.write(3, encoded(k=None))
    assert log.landed() == [("k", "v", (1, 0)), ("l", "v", (1, 1)), ("k", None, (1, 2))]
    assert held(changelog) == {"l": "v"}
    assert log.done == ["append 2", "append 1"], "nothing is read as long as nothing is wrong"


async def test_nothing_is_written_to_a_partition_that_is_not_ours() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    with pytest.raises(MovedError, match=r"chat\.in-memory, partition 4"):
        await changelog.write(4, encoded(k="v"))
    changelog.release()
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(k="v"))
    assert log.done == []


async def test_what_others_wrote_before_the_owners_record_is_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.land("l", "zombie", (1, 6))
    before = restored()

    await changelog.write(3, encoded(m="v"))

    assert log.done == ["append 1", "read 1 3", "append 2"]
    assert log.landed(3) == [("m", "v", (2, 0)), ("k", "v", (2, 1)), ("l", None, (2, 2))]
    assert restored() == before + 2
    assert caplog.messages == [
        "chat.in-memory/3: another worker wrote at offsets 1 to 2; what it has replaced is restored"
    ]
    await changelog.write(3, encoded(m="w"))
    assert log.done[3:] == ["append 1"], "it is done with"


async def test_it_is_replaced_again_if_others_wrote_meanwhile() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before["read"] = calling(log.before.__setitem__, "append", calling(log.land, "k", "zombie", (1, 6)))

    await changelog.write(3, encoded(m="v"))

    assert log.landed(3) == [("k", "zombie", (1, 6)), ("k", "v", (2, 1)), ("k", "v", (2, 2))]


async def test_between_two_of_the_owners_only_what_is_not_its_own_is_foreign() -> None:
    log = MemoryLog()
    changelog = await owning(log)

    async def partly() -> None:
        log.land("k", "zombie", (0, 0))

    log.after["append"] = partly
    await changelog.write(3, encoded(k="v"))
    await changelog.write(3, encoded(m="v"))
    assert log.landed(2) == [("m", "v", (1, 1)), ("k", "v", (1, 2))]


async def test_a_gap_that_nobody_wrote_is_no_harm() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.land("", None, None)  # the place of a transaction's marker
    log.before["read"] = calling(log.records.__setitem__, 0, Entry(-1, None, None, None))
    await changelog.write(3, encoded(k="v"))
    await changelog.write(3, encoded(k="w"))
    assert log.done == ["append 1", "read 0 1", "append 1"]


async def test_a_later_owners_record_ends_the_ownership() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "theirs", (3, 0))
    with pytest.raises(MovedError, match=r"chat\.in-memory, partition 3: epoch 3 has begun, ours was 2"):
        await changelog.write(3, encoded(m="v"))
    assert not changelog.owns(3)
    assert log.landed(2) == [("m", "v", (2, 0))], "nothing of theirs is overwritten"


async def test_whoever_loses_the_partition_while_it_reads_overwrites_nothing() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "theirs", (1, 5))
    log.before["read"] = calling(changelog.release)
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(m="v"))
    assert log.landed(2) == [("m", "v", (2, 0))]


async def test_what_others_wrote_and_cannot_be_read_now_is_looked_at_later() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before["read"] = raising(LogUnavailableError("away"))
    await changelog.write(3, encoded(m="v"))
    assert log.landed(2) == [("m", "v", (2, 0))], "it is written all the same"

    await changelog.watch()

    assert log.landed(3) == [("k", "v", (2, 1))]


# Several that write.


async def test_what_is_written_while_another_write_is_under_way_goes_out_together() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.before["append"] = gate = Gate()
    first = asyncio.create_task(changelog.write(3, encoded(a="1")))
    await gate.reached.wait()
    others = [asyncio.create_task(changelog.write(3, encoded(b=value, c=value))) for value in "12"]
    await asyncio.sleep(0)
    assert log.landed() == []
    gate.open.set()
    await asyncio.gather(first, *others)
    assert log.done == ["append 1", "append 4"]
    assert log.landed() == [
        ("a", "1", (1, 0)),
        *(("b", "1", (1, 1)), ("c", "1", (1, 2)), ("b", "2", (1, 3)), ("c", "2", (1, 4))),
    ]
    assert held(changelog) == {"a": "1", "b": "2", "c": "2"}


async def in_line(log: MemoryLog, changelog: Changelog) -> tuple[Gate, list["asyncio.Task[None]"]]:
    """One write is under way and two wait; then the second of them is, for itself and the third."""
    log.before["append"] = first_gate = Gate()
    tasks = [asyncio.create_task(changelog.write(3, encoded(**{key: "1"}))) for key in "abc"]
    await first_gate.reached.wait()
    log.before["append"] = second_gate = Gate()
    first_gate.open.set()
    await second_gate.reached.wait()
    assert tasks[0].done()
    assert log.done == ["append 1", "append 2"]
    return second_gate, tasks


async def test_if_the_one_that_writes_for_others_is_cancelled_they_write_themselves() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    _, (_, second, third) = await in_line(log, changelog)
    fourth = asyncio.create_task(changelog.write(3, encoded(c="2")))
    await asyncio.sleep(0)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await asyncio.gather(third, fourth)

    assert [one[:2] for one in log.landed()] == [("a", "1"), ("c", "1"), ("c", "2"), ("b", "1")]
    assert held(changelog) == {"a": "1", "b": "1", "c": "2"}, "in their order; and what may be there is"


async def test_if_it_fails_they_write_themselves_too() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.before["append"] = first_gate = Gate()
    first = asyncio.create_task(changelog.write(3, encoded(a="1")))
    await first_gate.reached.wait()
    second, third = (asyncio.create_task(changelog.write(3, encoded(**{key: "1"}))) for key in "bc")
    await asyncio.sleep(0)
    log.before["append"] = raising(ValueError("too large"))
    first_gate.open.set()
    with pytest.raises(ValueError, match="too large"):
        await second
    await asyncio.gather(first, third)
    assert ("c", "1") in [one[:2] for one in log.landed()]


async def test_whoever_is_cancelled_while_it_waits_holds_nobody_up() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.before["append"] = gate = Gate()
    first, second, third = (asyncio.create_task(changelog.write(3, encoded(**{key: "1"}))) for key in "abc")
    await gate.reached.wait()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open.set()
    await asyncio.gather(first, third)
    assert held(changelog)["c"] == "1"


async def test_all_that_wait_are_told_when_the_partition_goes() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    gate, (_, second, third) = await in_line(log, changelog)
    changelog.release()
    gate.open.set()
    for task in (second, third):
        with pytest.raises(MovedError):
            await task
    assert [one[:2] for one in log.landed()] == [("a", "1")]


async def test_what_is_asked_for_after_the_partition_went_is_not_had() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.before["append"] = gate = Gate()
    first, second = (asyncio.create_task(changelog.write(3, encoded(**{key: "1"}))) for key in "ab")
    await gate.reached.wait()
    changelog.release()
    gate.open.set()
    for task in (first, second):
        with pytest.raises(MovedError):
            await task
    assert held(changelog) == {"a": "1"}, (
        "as it may be there; and is written again, if the partition comes back"
    )


async def test_what_waits_keeps_its_place_before_what_comes_later() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    _, (_, second, third) = await in_line(log, changelog)
    later = [asyncio.create_task(changelog.write(3, encoded(c=value))) for value in "234"]
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(third, *later)
    assert [value for key, value, _ in log.landed() if key == "c"] == ["1", "2", "3", "4"]
    assert held(changelog)["c"] == "4"


async def test_what_a_later_owner_overtook_is_told_to_nobody_as_written() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    gate, (_, second, third) = await in_line(log, changelog)
    log.land("a", "theirs", (2, 0))
    gate.open.set()
    for task in (second, third):
        with pytest.raises(MovedError):
            await task


async def test_a_write_of_the_time_before_is_none_of_the_time_after() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.before["append"] = gate = Gate()
    before = asyncio.create_task(changelog.write(3, encoded(a="1")))
    await gate.reached.wait()
    changelog.expect({3: log.claims[-1]})
    await changelog.take_over(3)
    gate.open.set()
    with pytest.raises(MovedError):
        await before
    assert changelog.owns(3)


# Watching.


async def test_watching_finds_what_others_wrote_last() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))

    await changelog.watch()

    assert log.done == ["end", "read 1 2", "append 1"]
    assert log.landed(2) == [("k", "v", (2, 0))]
    await changelog.watch()
    assert log.done[3:] == ["end"], "it is done with"


async def test_a_deletion_that_was_undone_is_made_again() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    await changelog.write(3, encoded(k=None))
    log.land("k", "zombie", (1, 5))
    await changelog.watch()
    assert log.landed(3) == [("k", None, (2, 1))]
    assert held(changelog) == {}


@pytest.mark.parametrize("method", ["end", "read"])
async def test_while_kafka_is_away_nothing_is_forgotten(method: str) -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before[method] = raising(LogUnavailableError("away"))
    await changelog.watch()
    assert log.landed(2) == []
    await changelog.watch()
    assert log.landed(2) == [("k", "v", (2, 0))]


async def test_what_may_be_written_or_not_is_written_again() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.before["append"] = gate = Gate()
    writing = asyncio.create_task(changelog.write(3, encoded(k="w")))
    await gate.reached.wait()
    writing.cancel()
    with suppress(asyncio.CancelledError):
        await writing
    await changelog.watch()
    assert log.landed(1) == [("k", "w", (2, 1))]


async def test_watching_that_finds_a_later_owner_gives_up_the_partition() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "theirs", (3, 0))
    await changelog.watch()
    assert not changelog.owns(3)
    assert log.landed(2) == []
    await changelog.watch()
    assert log.done == ["end", "read 1 2"]


async def test_a_partition_that_goes_while_its_end_is_asked_is_left_alone() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before["end"] = calling(changelog.release)
    await changelog.watch()
    assert log.done == ["end"]
