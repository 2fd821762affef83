"""A network that fails as told: a TCP proxy with delays, resets, silence and lost answers.

It runs on a thread and an event loop of its own. Its methods may be called from any other thread, and
return once what they say holds.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024
_MOST_CHUNKS = 1_024
"""Held in one direction of a connection; then the sender finds that nobody reads."""
_Flow = asyncio.Queue[tuple[float, bytes | None]]
"""One direction of a connection: when each piece may pass, and the piece; None for the end."""
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing discards what is unsent, and sends RST."""


class Proxy:
    """Passes connections to its port on to `target`.

    A faulty network loses no bytes by being slow or silent: what was sent before a `freeze` ended
    arrives after it, also from a sender that has given up and gone.
    """

    def __init__(self, target: tuple[str, int], listen_port: int = 0) -> None:
        self.target = target
        self.port = listen_port
        """Where it listens; known once started, and kept if it is stopped and started again."""
        self.lost = 0
        """Answers that were lost."""
        self.seconds = 0.0
        self.refusing = False
        self._losing = 0
        self._marker = b""
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: asyncio.Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def start(self) -> None:
        """Listen; the target need not be there yet."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="proxy", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def stop(self) -> None:
        """Reset every connection, and listen no more."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def delay(self, seconds: float) -> None:
        """What is sent from now on takes so much longer, each way."""
        self._do(lambda: setattr(self, "seconds", seconds))

    def reset_all(self) -> None:
        """Every open connection is reset, on both sides; what was held is gone."""

        def reset() -> None:
            for connection in list(self._connections):
                connection.reset()

        self._do(reset)

    def freeze(self) -> None:
        """Silence: connections stay, new ones are taken, and nothing passes. Nobody is told."""
        self._do(self._thawed.clear)

    def thaw(self) -> None:
        """What was held is delivered, then all goes on."""
        self._do(self._thawed.set)

    def lose_responses(self, count: int = 1, marker: bytes = b"") -> None:
        """The next requests (those that contain `marker`) arrive whole; instead of an answer comes a reset.

        On a connection where requests overtake each other, the first answer after the request is lost,
        and all that would come after it.
        """

        def lose() -> None:
            self._losing, self._marker = count, marker
            for connection in self._connections:
                connection.losing = False

        self._do(lose)

    def refuse(self) -> None:
        """New connections are reset at once; the present ones stay."""
        self._do(lambda: setattr(self, "refusing", True))

    def accept(self) -> None:
        """New connections are taken again."""
        self._do(lambda: setattr(self, "refusing", False))

    def clear(self) -> None:
        """All is well again: no delay, nothing held, lost or refused."""

        def clear() -> None:
            self.seconds, self.refusing = 0.0, False
            self._losing, self._marker = 0, b""
            for connection in self._connections:
                connection.losing = False
            self._thawed.set()

        self._do(clear)

    def _do(self, what: Callable[[], object]) -> None:
        async def run() -> None:
            what()

        if self._loop is None:
            what()
        else:
            asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            connection.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # transports close in the next round

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection = _Connection(self, reader, writer)
        if self.refusing:
            connection.reset()
            return
        self._connections.add(connection)
        try:
            await connection.serve()
        except asyncio.CancelledError:
            pass  # stopped: asyncio's streams would report the cancellation as a failure
        finally:
            connection.reset()
            self._connections.discard(connection)

    async def network(self, due: float) -> None:
        """Return when the network lets something through that may pass at `due`, by the loop's clock."""
        left = due - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)
        await self._thawed.wait()

    def takes(self, request: bytes) -> bool:
        """Whether the answer to these bytes is to be lost; if so, one fewer is from now on."""
        if self._losing and self._marker in request:
            self._losing -= 1
            return True
        return False

    @property
    def marker(self) -> bytes:
        return self._marker


class _Connection:
    """Of a client, and the one made for it to the target."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self.losing = False
        self._seen = b""

    def reset(self) -> None:
        for writer in self._writers:
            connected = writer.get_extra_info("socket")
            if connected is not None and not writer.transport.is_closing():
                with contextlib.suppress(OSError):
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def serve(self) -> None:
        """Until both sides have ended, or one has broken."""
        loop = asyncio.get_running_loop()
        reader, writer = self._client
        requests: _Flow = asyncio.Queue(_MOST_CHUNKS)
        answers: _Flow = asyncio.Queue(_MOST_CHUNKS)
        tasks = [asyncio.create_task(self._take(reader, requests))]
        try:
            await self._proxy.network(loop.time() + self._proxy.seconds)
            behind_reader, behind = await asyncio.open_connection(*self._proxy.target)
            self._writers.append(behind)
            tasks += [
                asyncio.create_task(self._forward(requests, behind)),
                asyncio.create_task(self._take(behind_reader, answers)),
                asyncio.create_task(self._answer(answers, writer)),
            ]
            await asyncio.gather(*tasks[1:])
        except OSError:
            pass  # both sides are reset
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, into: _Flow) -> None:
        """Take bytes as they come, so that they are under way even if their sender gives up."""
        loop = asyncio.get_running_loop()
        data: bytes | None = b""
        while data is not None:
            try:
                data = await reader.read(_CHUNK) or None
            except OSError:
                data = None
            await into.put((loop.time() + self._proxy.seconds, data))

    async def _forward(self, requests: _Flow, behind: asyncio.StreamWriter) -> None:
        while True:
            due, data = await requests.get()
            await self._proxy.network(due)
            if data is None:
                with contextlib.suppress(OSError):
                    behind.write_eof()
                return
            marker = self._proxy.marker
            if not self.losing and self._proxy.takes(self._seen + data):
                self.losing = True
            self._seen = (self._seen + data)[-len(marker) + 1 :] if len(marker) > 1 else b""
            behind.write(data)
            await behind.drain()

    async def _answer(self, answers: _Flow, writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await answers.get()
            await self._proxy.network(due)
            if data is None:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
            if self.losing:
                self._proxy.lost += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
