"""Waiting for tasks and events, no longer than one has to; and ending tasks."""

import asyncio
from collections.abc import Collection
from typing import Any, Final

_AGAIN_S: Final = 0.1


async def within(seconds: float, event: asyncio.Event) -> bool:
    """Waits for the event, so long at most; whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


async def ended(work: asyncio.Future[Any], event: asyncio.Event) -> bool:
    """Waits for the work to end, or for the event; whether the work has ended. It isn't cancelled."""
    told = asyncio.ensure_future(event.wait())
    await asyncio.wait([work, told], return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    return work.done()


async def end(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel tasks until they have ended, however they end.

    A task of aiokafka's may lose a cancellation, when what it waits for is done at the same moment. What a
    task does when it is cancelled is cut short if it takes longer than a tenth of a second.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
