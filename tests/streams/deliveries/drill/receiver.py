"""A receiver of webhooks over real HTTP, which fails as often as it is told, and remembers every request."""

import asyncio
import contextlib
import random
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError


class Mood(StrEnum):
    """What a receiver does with a request."""

    TAKES = "takes"
    TAKES_ITS_TIME = "takes its time"
    ERROR = "500"
    BUSY = "503"
    SILENT = "silent"
    RESETS = "resets"
    HANGS_UP = "hangs up"
    DRIPS = "drips a 500"


_FAILURES: Final[Mapping[Mood, float]] = {
    Mood.ERROR: 0.30,
    Mood.BUSY: 0.15,
    Mood.SILENT: 0.10,
    Mood.RESETS: 0.20,
    Mood.HANGS_UP: 0.15,
    Mood.DRIPS: 0.10,
}
_SLOW: Final = 0.1
"""Which share of the good answers takes its time."""


@dataclass(frozen=True)
class Request:
    """One that came, and what was done with it."""

    at: float
    """Seconds since 1970."""
    endpoint_id: str
    webhook_id: str
    taken: bool
    """It was answered with 200."""
    signed: bool
    """Its signature is right."""
    body: bytes


@dataclass
class Receiver:
    """Of one endpoint. `secret` is what its requests are to be signed with (`whsec_...`)."""

    endpoint_id: str
    secret: str
    seed: int
    failing: float = 0.3
    always: int | None = None
    """Answer everything with this status."""
    requests: list[Request] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """What was answered with 200."""
    _server: asyncio.Server | None = None
    _seen: dict[str, int] = field(default_factory=dict)
    _connections: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> str:
        """Listen; returns the URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}/{self.endpoint_id}"

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _mood(self, webhook_id: str) -> tuple[Mood, float]:
        # By what came, not by when: the same seed has the same weather, however fast the machine is.
        number = self._seen[webhook_id] = self._seen.get(webhook_id, 0) + 1
        drawn = random.Random(f"{self.seed}/{webhook_id}/{number}")
        if drawn.random() < self.failing:
            return drawn.choices(list(_FAILURES), list(_FAILURES.values()))[0], 0.0
        if drawn.random() < _SLOW:
            return Mood.TAKES_ITS_TIME, drawn.uniform(0.02, 0.3)
        return Mood.TAKES, 0.0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in lines}
        body = await reader.readexactly(int(headers["content-length"]))
        if self.always is not None:
            self._note(headers, body, 200 <= self.always < 300)
            writer.write(b"HTTP/1.1 %d Told\r\nContent-Length: 0\r\n\r\n" % self.always)
            await writer.drain()
            return True
        mood, wait = self._mood(headers["webhook-id"])
        await asyncio.sleep(wait)
        taken = mood in (Mood.TAKES, Mood.TAKES_ITS_TIME)
        self._note(headers, body, taken)
        if taken:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif mood is Mood.ERROR:
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        elif mood is Mood.BUSY:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")
        elif mood is Mood.SILENT:
            await reader.read()  # until the other side has had enough
            return False
        elif mood is Mood.RESETS:
            _reset(writer)
            return False
        elif mood is Mood.HANGS_UP:
            writer.write(b"HTTP/1.1 200")
            return False
        else:
            await self._drip(writer)
            return False
        await writer.drain()
        return True

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.1)

    def _note(self, headers: Mapping[str, str], body: bytes, taken: bool) -> None:
        try:
            Webhook(self.secret).verify(body, dict(headers), json_parse=False)
            signed = True
        except WebhookVerificationError:
            signed = False
        if taken:
            self.taken.add(headers["webhook-id"])
        self.requests.append(
            Request(time.time(), self.endpoint_id, headers["webhook-id"], taken, signed, body)
        )


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
