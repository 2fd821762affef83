"""A TCP proxy before ClickHouse that can go away, and lose an answer."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a free port, and keeps it while closed, so that it can be opened again."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._marker: bytes | None = None
        self.port = 0
        self.swallowed = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Lets connections through."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Breaks every connection, and refuses new ones."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def swallow_answer_to(self, marker: bytes) -> None:
        """The next request with these bytes reaches ClickHouse; its answer is lost, once."""
        self._marker = marker

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            ahead, behind = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, behind}
        losing = asyncio.Event()
        try:
            await asyncio.gather(self._forward(reader, behind, losing), self._answer(ahead, writer, losing))
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.transport.abort()
        finally:
            self._open -= {writer, behind}
            behind.transport.abort()
            writer.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, behind: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            if self._marker is not None and self._marker in data:
                self._marker = None
                losing.set()
            behind.write(data)
            await behind.drain()
        with contextlib.suppress(OSError):
            behind.write_eof()

    async def _answer(
        self, ahead: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        while data := await ahead.read(65_536):
            if losing.is_set():
                self.swallowed += 1
                raise ConnectionAbortedError
            writer.write(data)
            await writer.drain()
