"""Who waits for Kafka or ClickHouse asks again, as often as it takes, until nobody wants the answer."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from clients import retry
from clients.retry import GivenUp, keeping_up, retrying


class Flaky:
    """Fails so many times, then answers; and remembers what was said of its failures."""

    def __init__(self, failures: int, error: type[Exception] = OSError) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0
        self.told: list[tuple[str, int, float]] = []

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"no. {self.calls}")
        return "answer"

    def failed(self, error: Exception, number: int, wait: float) -> None:
        self.told.append((str(error), number, wait))


def passing(error: Exception) -> bool:
    return isinstance(error, OSError)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_S", 0.01)
    monkeypatch.setattr(retry, "_LONGEST_S", 0.05)
    monkeypatch.setattr(retry, "_JITTER_S", 0.0)


@pytest.mark.usefixtures("hurried")
async def test_what_passes_is_repeated_until_it_is_over_and_each_failure_is_told_with_its_cause() -> None:
    work = Flaky(5)
    assert await retrying(work, passes=passing, failed=work.failed) == "answer"
    assert work.told == [
        ("no. 1", 2, 0.01),
        ("no. 2", 3, 0.02),
        ("no. 3", 4, 0.04),
        ("no. 4", 5, 0.05),
        ("no. 5", 6, 0.05),
    ]


async def test_the_wait_is_at_least_what_is_told() -> None:
    work = Flaky(1)
    began = time.monotonic()
    await retrying(work, passes=passing, failed=work.failed)
    assert time.monotonic() - began >= work.told[0][2] == retry._FIRST_S


@pytest.mark.parametrize("ask", [retrying, keeping_up])
async def test_what_does_not_pass_is_raised_at_once(ask: Callable[..., Awaitable[str]]) -> None:
    work = Flaky(1, ValueError)
    with pytest.raises(ValueError, match=r"no\. 1"):
        await ask(work, passes=passing, failed=work.failed)
    assert (work.calls, work.told) == (1, [])


async def test_no_attempt_is_made_of_what_nobody_wants() -> None:
    work = Flaky(0)
    with pytest.raises(GivenUp):
        await retrying(work, passes=passing, failed=work.failed, wanted=lambda: False)
    assert work.calls == 0


async def test_a_wait_ends_soon_when_the_answer_is_no_longer_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_FIRST_S", 60.0)
    monkeypatch.setattr(retry, "_LONGEST_S", 60.0)
    work, stopping = Flaky(99), asyncio.Event()

    def failed(error: Exception, number: int, wait: float) -> None:
        asyncio.get_running_loop().call_later(0.1, stopping.set)

    async with asyncio.timeout(20):
        with pytest.raises(GivenUp):
            await retrying(work, passes=passing, failed=failed, wanted=lambda: not stopping.is_set())
    assert work.calls == 1


async def test_an_attempt_under_way_is_not_interrupted() -> None:
    wanted = True

    async def work() -> str:
        nonlocal wanted
        wanted = False
        await asyncio.sleep(2 * retry._LOOK_EVERY_S)
        return "answer"

    told = Flaky(0)
    assert await retrying(work, passes=passing, failed=told.failed, wanted=lambda: wanted) == "answer"


@pytest.mark.parametrize("ask", [retrying, keeping_up])
async def test_a_wait_can_be_cancelled_and_leaves_no_task(ask: Callable[..., Awaitable[str]]) -> None:
    work = Flaky(10**6)
    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await ask(work, passes=passing, failed=work.failed)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("ask", [retrying, keeping_up])
async def test_an_attempt_can_be_cancelled_whatever_passes(ask: Callable[..., Awaitable[str]]) -> None:
    told = Flaky(0)
    begun = asyncio.Event()

    async def work() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    asking = asyncio.ensure_future(ask(work, passes=lambda error: True, failed=told.failed))
    await begun.wait()
    asking.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait([asking])
    assert asking.cancelled()
    assert told.told == []


@pytest.mark.usefixtures("hurried")
async def test_after_a_session_that_has_lasted_the_next_failure_is_a_first_one() -> None:
    told = Flaky(0)
    outages = iter([0.0, 0.0, 0.0, 0.2, 0.0])

    async def session() -> str:
        if (lasts := next(outages, None)) is None:
            return "over"
        await asyncio.sleep(lasts)
        raise OSError("gone")

    assert await keeping_up(session, passes=passing, failed=told.failed) == "over"
    assert [(number, wait) for _, number, wait in told.told] == [
        (2, 0.01),
        (3, 0.02),
        (4, 0.04),
        (1, 0.0),
        (2, 0.01),
    ]


@pytest.mark.usefixtures("hurried")
async def test_nothing_but_who_asks_says_that_something_failed(caplog: pytest.LogCaptureFixture) -> None:
    work = Flaky(3)
    with caplog.at_level(logging.DEBUG):
        await retrying(work, passes=passing, failed=work.failed)
    assert [record for record in caplog.records if record.name != "asyncio"] == []
