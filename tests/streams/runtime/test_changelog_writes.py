"""Writing to a changelog's partition and watching it: what is replaced, and what ends the ownership."""

import asyncio
import logging
from contextlib import suppress

import pytest

from streams.runtime.changelog import Changelog
from streams.runtime.entries import Entry
from streams.runtime.errors import LogUnavailableError, MovedError
from tests.streams.runtime.memory_log import (
    Gate,
    MemoryLog,
    calling,
    encoded,
    held,
    owning,
    raising,
    restored,
)

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


async def test_whoever_loses_the_partition_while_it_reads_of_a_later_owner_is_told_that_it_moved() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "theirs", (3, 0))
    log.before["read"] = calling(changelog.release)
    with pytest.raises(MovedError):
        await changelog.write(3, encoded(m="v"))


async def test_what_the_owner_wrote_between_two_writes_of_others_is_not_replaced() -> None:
    log = MemoryLog()
    changelog = await owning(log)
    log.land("a", "zombie", (0, 0))
    log.before["read"] = raising(LogUnavailableError("away"))
    await changelog.write(3, encoded(k="v"))
    log.land("b", "zombie", (0, 1))

    await changelog.watch()

    assert log.landed(3) == [("a", None, (1, 1)), ("b", None, (1, 2))]


async def test_what_others_wrote_and_cannot_be_read_now_is_looked_at_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before["read"] = raising(LogUnavailableError("away"))
    await changelog.write(3, encoded(m="v"))
    assert log.landed(2) == [("m", "v", (2, 0))], "it is written all the same"
    assert caplog.messages == ["chat.in-memory/3: who else wrote is not known now: away"]

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
async def test_while_kafka_is_away_nothing_is_forgotten(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before[method] = raising(LogUnavailableError("away"))
    await changelog.watch()
    assert log.landed(2) == []
    assert caplog.messages == ["chat.in-memory/3: who else wrote is not known now: away"]
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


async def test_watching_that_finds_a_later_owner_gives_up_the_partition(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "theirs", (3, 0))
    await changelog.watch()
    assert not changelog.owns(3)
    assert log.landed(2) == []
    await changelog.watch()
    assert log.done == ["end", "read 1 2"]
    assert caplog.messages == ["chat.in-memory, partition 3: epoch 3 has begun, ours was 2"]


async def test_a_partition_that_goes_while_its_end_is_asked_is_left_alone() -> None:
    log = MemoryLog(("k", "v", (1, 0)))
    changelog = await owning(log)
    log.land("k", "zombie", (1, 5))
    log.before["end"] = calling(changelog.release)
    await changelog.watch()
    assert log.done == ["end"]
