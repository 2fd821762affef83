"""Waiting no longer than one has to: for blocking calls that may never end, and for events."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def aside(function: Callable[..., _T], *arguments: object) -> _T:
    """The function's result, or what it raises. Cancelled, it no longer waits, and the thread runs on.

    Unlike the threads of `asyncio.to_thread`, this one doesn't keep the process from ending: a request
    that is not answered may take a minute to say so.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def tell(value: _T | None, error: BaseException | None) -> None:
        if result.cancelled():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failed = None, None
        try:
            value = function(*arguments)
        except BaseException as error:  # handed to who waits
            failed = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, value, failed)

    threading.Thread(target=run, daemon=True, name=getattr(function, "__name__", "aside")).start()
    return await result


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
