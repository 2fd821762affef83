"""Running statements in threads, on behalf of the event loop.

The engine blocks, and lets go of Python's lock while it does. A connection is used by one thread at a
time, not always the same one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO, Any, TypeVar

from infra.clickhouse.engine import Progress, insert, run
from infra.clickhouse.errors import CANNOT_WRITE, ClickHouseError
from infra.clickhouse.statement import Statement

Result = TypeVar("Result")
Connecting = AbstractContextManager[Any]

_GATHERED = 4 * 1024 * 1024
"""Bytes of an INSERT handed to a thread at once: a hand-over costs some 50 µs."""


class Threads:
    """A bounded number of threads; what exceeds it waits its turn."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The function's result, or what it raises; runs to its end even when the caller is cancelled."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            # The connection is in use until then, and must not be closed under it.
            await asyncio.wait([running])
            raise


class Execution:
    """One statement with a result. Call `begin` once, `next` until None, and `close` in any case."""

    def __init__(
        self,
        threads: Threads,
        connection: Connecting,
        statement: Statement,
        default_format: str,
        query_id: str,
    ) -> None:
        self._threads = threads
        self._connection = connection
        self._statement = statement
        self._default_format = default_format
        self._query_id = query_id
        self._open = ExitStack()
        self._pieces: Iterator[tuple[bytes, Progress]] = iter(())
        self._ahead: bytes | None = None

    async def begin(self) -> tuple[bytes, bool, Progress]:
        """The first piece, whether more follow, and the counts so far."""
        try:
            return await self._threads.call(self._begin)
        except BaseException:
            await self.close()
            raise

    def _begin(self) -> tuple[bytes, bool, Progress]:
        connection = self._open.enter_context(self._connection)
        pieces = run(connection, self._statement, self._default_format, self._query_id)
        self._open.callback(pieces.close)
        self._pieces = pieces
        first, progress = next(pieces)
        self._ahead, progress = next(pieces, (None, progress))
        return first, self._ahead is not None, progress

    async def next(self) -> bytes | None:
        return await self._threads.call(self._next)

    def _next(self) -> bytes | None:
        piece = self._ahead
        if piece is not None:
            self._ahead, _ = next(self._pieces, (None, None))
        return piece

    async def close(self) -> None:
        await self._threads.call(self._open.close)


class Insertion:
    """One INSERT whose data come with the request: gathered in a file, then written at once."""

    def __init__(
        self, threads: Threads, connection: Connecting, statement: Statement, incoming: IO[bytes]
    ) -> None:
        self._threads = threads
        self._connection = connection
        self._statement = statement
        self._incoming = incoming

    async def run(self, data: AsyncIterator[bytes]) -> Progress:
        try:
            gathered: list[bytes] = []
            size = 0
            async for piece in data:
                gathered.append(piece)
                size += len(piece)
                if size >= _GATHERED:
                    await self._threads.call(_write, self._incoming, gathered)
                    gathered, size = [], 0
            return await self._threads.call(self._finish, gathered)
        finally:
            self._incoming.close()

    def _finish(self, last: list[bytes]) -> Progress:
        _write(self._incoming, last)
        with self._connection as connection:
            return insert(connection, self._statement, Path(self._incoming.name))


def _write(file: IO[bytes], pieces: list[bytes]) -> None:
    try:
        file.writelines(pieces)
        file.flush()
    except OSError as problem:
        raise ClickHouseError.of(
            CANNOT_WRITE, f"Cannot keep the data of the request: {problem.strerror}: free some space"
        ) from problem
