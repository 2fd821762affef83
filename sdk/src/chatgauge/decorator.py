"""Functions, coroutine functions and generators that are measured at each call."""

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from typing import Any

from chatgauge.scope import MeasuredScope


def measured(function: Callable[..., Any], again: Callable[[], MeasuredScope]) -> Callable[..., Any]:
    """The function, within a scope of its own at each call; a generator from its first item to its end."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with again():
                return await function(*args, **kwargs)

        return coroutine
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def async_items(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            span = again().start()
            try:
                async for item in function(*args, **kwargs):
                    yield item
            except BaseException as error:
                span.finish(error)
                raise
            span.finish()

        return async_items
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def items(*args: Any, **kwargs: Any) -> Iterator[Any]:
            span = again().start()
            try:
                yield from function(*args, **kwargs)
            except BaseException as error:
                span.finish(error)
                raise
            span.finish()

        return items

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with again():
            return function(*args, **kwargs)

    return call
