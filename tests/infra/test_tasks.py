import asyncio

from infra.tasks import end


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def busy() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    task = asyncio.create_task(busy())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await end([task])

    assert task.cancelled()
    assert lost == 2


async def test_a_task_that_fails_as_it_ends_is_over_too() -> None:
    async def failing() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("the connection is gone")

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)
    await end([task])

    assert isinstance(task.exception(), OSError)
