"""The HTTP client that all deliveries share: guarded, bounded in time and in what it reads.

It sits on httpcore itself, so there is nothing to switch off: no redirects are followed, no proxy, cookie
or credential comes from the environment, no body is decompressed.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import certifi
import httpcore
import httpx

from streams.deliveries.addresses import AllowList
from streams.deliveries.errors import UnansweredError
from streams.deliveries.guard import GuardedBackend, Resolver, check_url

USER_AGENT = "Chatgauge/0.1"
_READ = 64 * 1024
_KEPT = 2048
_CONNECTING_S = 5.0
# Node closes idle connections after 5 s, many proxies later: ours are gone before a server's are.
_IDLE_S = 3.0
_MOST_IDLE = 16

_BROKEN = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case; the last of several with the same name."""
    body: bytes
    """The first 2 KiB."""

    @property
    def text(self) -> str:
        """The body for a person, without control characters."""
        text = self.body.decode("utf-8", "replace")
        return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


@cache
def trust(ca_file: Path | None = None) -> ssl.SSLContext:
    """Whom to trust over TLS: what the system trusts, Mozilla's list, and the operator's own authority."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class _OriginQueue:
    """The connections to one origin."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self.pool = pool
        self.users = 0
        self.left_at = 0.0


class DeliveryClient:
    """Posts to endpoints; for one event loop.

    Every origin has connections of its own, so that a slow one has nothing that others could wait for; how
    many requests an endpoint may have under way at once is for whoever calls.
    """

    def __init__(
        self,
        allowed: AllowList | None = None,
        *,
        resolver: Resolver | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = allowed or AllowList()
        self._resolver = resolver or Resolver()
        self._context = context or trust()
        self._queues: dict[tuple[str, str, int | None], _OriginQueue] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """POST, and what was answered within `seconds` in all: looking up, connecting, sending, reading.

        An answer counts once its status has come, also when its body isn't through by then. Raises
        AddressRefusedError before anything was sent, and UnansweredError, which says how far it came.
        """
        target = check_url(url, self._allowed)
        deadline = asyncio.get_running_loop().time() + seconds
        queue = self._queue(target)
        queue.users += 1
        try:
            async with asyncio.timeout_at(deadline):
                response = await queue.pool.handle_async_request(_request(target, body, headers))
            return await _answer(response, deadline)
        except TimeoutError:
            raise UnansweredError(f"no answer within {seconds:.3g} s") from None
        except _BROKEN as error:
            raise UnansweredError(_words(error)) from error
        finally:
            queue.users -= 1
            queue.left_at = asyncio.get_running_loop().time()

    def _queue(self, url: httpx.URL) -> _OriginQueue:
        origin = (url.scheme, url.host, url.port)
        queue = self._queues.get(origin)
        if queue is None:
            backend = GuardedBackend(self._resolver, self._allowed, cleartext=url.scheme == "http")
            queue = self._queues[origin] = _OriginQueue(
                httpcore.AsyncConnectionPool(
                    ssl_context=self._context,
                    max_connections=None,
                    max_keepalive_connections=_MOST_IDLE,
                    keepalive_expiry=_IDLE_S,
                    network_backend=backend,
                )
            )
        if self._sweeping is None:
            self._sweeping = asyncio.create_task(self._sweep())
        return queue

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_IDLE_S)
            for origin, queue in list(self._queues.items()):
                if not queue.users and loop.time() - queue.left_at > _IDLE_S:
                    del self._queues[origin]
                    with contextlib.suppress(*_BROKEN):
                        await queue.pool.aclose()

    async def close(self) -> None:
        """Close all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
            self._sweeping = None
        while self._queues:
            _origin, queue = self._queues.popitem()
            with contextlib.suppress(*_BROKEN):
                await queue.pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _request(url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> httpcore.Request:
    own = {
        "Host": url.netloc.decode("ascii"),
        "User-Agent": USER_AGENT,
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Length": str(len(body)),
    }
    given = {name.lower() for name in headers}
    return httpcore.Request(
        "POST",
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=[(name, value) for name, value in own.items() if name.lower() not in given]
        + list(headers.items()),
        content=body,
        extensions={"timeout": {"connect": _CONNECTING_S}},
    )


async def _answer(response: httpcore.Response, deadline: float) -> Answer:
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
    kept, read = bytearray(), 0
    try:
        async with asyncio.timeout_at(deadline):
            async for chunk in response.aiter_stream():
                kept += chunk[: _KEPT - len(kept)]
                read += len(chunk)
                if read > _READ:
                    break
    except (TimeoutError, *_BROKEN):
        pass  # the status has come, and says it all
    finally:
        await response.aclose()
    return Answer(response.status, headers, bytes(kept))


def _words(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    while cause is not None and not isinstance(cause, ssl.SSLError | OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate can't be trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause}"
    if isinstance(error, httpcore.ConnectTimeout):
        return str(error) or f"no connection within {_CONNECTING_S:g} s"
    if isinstance(error, httpcore.RemoteProtocolError):
        return f"it doesn't answer in HTTP: {error}" if "illegal" in str(error) else str(error)
    if isinstance(error, httpcore.ConnectError):
        return str(error) or "no connection"
    return str(error) or "the connection broke off"
