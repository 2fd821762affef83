"""How often Kafka and ClickHouse are asked again: one policy for everybody who waits for them.

After the first failure a fifth of a second, then twice as long each time up to a quarter of a minute, and up
to half a second more by chance, so that not all come at once. There is no last attempt: who waits has an end
of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Final, TypeVar

import stamina
from stamina.instrumentation import set_on_retry_hooks

_T = TypeVar("_T")
_FIRST_S: Final = 0.2
_LONGEST_S: Final = 15.0
_JITTER_S: Final = 0.5
_LOOK_EVERY_S: Final = 0.2

# Who asks says what failed; stamina's own would say it again, and count it for Prometheus.
set_on_retry_hooks([])

Failed = Callable[[Exception, int, float], None]
"""Takes the failure, the number of the next attempt, and in how many seconds it comes at the earliest."""


class GivenUp(Exception):  # noqa: N818 - not an error: what was asked is no longer wanted
    """No attempt follows: the answer is no longer wanted."""


async def retrying(
    work: Callable[[], Awaitable[_T]],
    *,
    passes: Callable[[Exception], bool],
    failed: Failed,
    wanted: Callable[[], bool] = lambda: True,
    outage: Callable[[Exception], AbstractContextManager[None]] = lambda error: nullcontext(),
) -> _T:
    """What `work` returns, after as many attempts as it takes.

    Raises what doesn't pass by itself, and GivenUp when an attempt is to be made and is no longer `wanted`,
    which is looked at while waiting too. An attempt under way is not interrupted. From the first failure on
    it is within the `outage` that is made of it.
    """
    with ExitStack() as lasting:
        async for attempt in _while(wanted, _attempts(passes)):
            try:
                return await work()
            except Exception as error:
                if not passes(error):
                    raise
                failure = error
            failed(failure, attempt.num + 1, attempt.next_wait)
            if attempt.num == 1:
                lasting.enter_context(outage(failure))
            with attempt:  # nothing else happens in it: it takes a cancellation for a failure, too
                raise failure
        raise GivenUp


async def keeping_up(
    session: Callable[[], Awaitable[_T]],
    *,
    passes: Callable[[Exception], bool],
    failed: Failed,
) -> _T:
    """As `retrying`, for what goes on until it fails: once it has lasted, the next failure is a first one.

    To last is to go on for longer than the longest wait; the next attempt then comes at once.
    """
    while True:
        async for attempt in _attempts(passes):
            began = time.monotonic()
            try:
                return await session()
            except Exception as error:
                if not passes(error):
                    raise
                failure = error
            if time.monotonic() - began > _LONGEST_S:
                failed(failure, 1, 0.0)
                break
            failed(failure, attempt.num + 1, attempt.next_wait)
            with attempt:
                raise failure


def _attempts(passes: Callable[[Exception], bool]) -> AsyncIterator[stamina.Attempt]:
    return aiter(
        stamina.retry_context(
            on=passes,
            attempts=None,
            timeout=None,
            wait_initial=_FIRST_S,
            wait_max=_LONGEST_S,
            wait_jitter=_JITTER_S,
        )
    )


async def _while(
    wanted: Callable[[], bool], attempts: AsyncIterator[stamina.Attempt]
) -> AsyncIterator[stamina.Attempt]:
    """The attempts, each after its wait, until one is not wanted any more."""
    while wanted():
        following = asyncio.ensure_future(anext(attempts))
        try:
            while not following.done():
                await asyncio.wait([following], timeout=_LOOK_EVERY_S)
                if not wanted():
                    return
        finally:
            following.cancel()
        yield following.result()
