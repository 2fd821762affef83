"""Tasks that run side by side and are all needed."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

from infra.liveness.part import described


class EndedError(Exception):
    """A task ended that should not have; the text says which, and how."""


async def side_by_side(needed: Mapping[str, Coroutine[Any, Any, object]], stopping: asyncio.Event) -> None:
    """Runs coroutines as tasks of these names until all have ended, which they do once `stopping` is set.

    When one ends before, or raises, the others are cancelled and waited for. Then what it raised is raised;
    EndedError when it was cancelled, or returned.
    """
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in needed.items()]
    left = set(tasks)
    try:
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.cancelled():
                    raise EndedError(f"the task {task.get_name()} was cancelled")
                if (error := task.exception()) is not None:
                    raise error
                if not stopping.is_set():
                    raise EndedError(f"the task {task.get_name()} ended")
    finally:
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reason_of(error: BaseException) -> str:
    """Why a part ends, when this is what its main task raised."""
    if isinstance(error, EndedError):
        return str(error)
    if isinstance(error, asyncio.CancelledError):
        return "the main task was cancelled"
    return described(error)
