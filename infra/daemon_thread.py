"""Blocking calls that may never end."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


async def daemon_thread(function: Callable[..., _T], *arguments: object) -> _T:
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

    threading.Thread(target=run, daemon=True, name=getattr(function, "__name__", "daemon_thread")).start()
    return await result
