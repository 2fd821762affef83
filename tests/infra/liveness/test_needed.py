"""Tasks that are all needed: the first that ends before its time ends all of them, with its reason."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from infra.liveness import EndedError, reason_of, side_by_side


async def _returns(_: asyncio.Event) -> None:
    return


async def _fails(_: asyncio.Event) -> None:
    raise ValueError("no such column")


async def _is_cancelled(_: asyncio.Event) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (_returns, "the task chat.spans ended"),
        (_fails, "ValueError: no such column"),
        (_is_cancelled, "the task chat.spans was cancelled"),
    ],
)
async def test_one_that_ends_ends_the_others_and_is_named(
    of: Callable[[asyncio.Event], Coroutine[Any, Any, None]], reason: str
) -> None:
    stopping = asyncio.Event()
    wound_up: list[str] = []

    async def other() -> None:
        try:
            await stopping.wait()
        finally:
            await asyncio.sleep(0)
            wound_up.append("chat.requests")

    with pytest.raises((EndedError, ValueError)) as ended:
        await side_by_side({"chat.requests": other(), "chat.spans": of(stopping)}, stopping)

    assert reason_of(ended.value) == reason
    assert wound_up == ["chat.requests"]


async def test_all_may_end_when_they_are_told_to() -> None:
    stopping = asyncio.Event()
    done: list[str] = []

    async def one(name: str) -> None:
        await stopping.wait()
        done.append(name)

    asyncio.get_running_loop().call_later(0.01, stopping.set)
    await side_by_side({"a": one("a"), "b": one("b")}, stopping)

    assert sorted(done) == ["a", "b"]


def test_a_main_task_that_is_cancelled_is_called_so() -> None:
    assert reason_of(asyncio.CancelledError()) == "the main task was cancelled"
