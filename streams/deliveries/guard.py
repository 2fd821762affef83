"""The guard on every connection that a delivery makes.

A URL is judged by its form before anything is called. The addresses are judged where the connection is
made: the host is resolved there, once, every address that it has is judged, and the connection goes to
one of exactly those. A name that answers differently the next time has no next time.
"""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpcore
import httpx

from streams.deliveries.addresses import Address, AllowList, is_name, plain, refusal
from streams.deliveries.errors import AddressRefusedError

_LONGEST_URL = 2048
_TLS_PORT = 443
_FIRST_USER_PORT = 1024
_MOST_LOOKUPS = 128
_HOW_TO_ALLOW = "CHATGAUGE_DELIVERY_ALLOW makes exceptions"

# What a resolver's libraries read as an IPv4 address, beside four decimal numbers: 2130706433, 0x7f.1, 017.1
_NUMERIC_LABEL = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")

_AUTHORITY = re.compile(r"//|[/?#]")

Lookup = Callable[..., list[tuple[Any, ...]]]


def check_url(text: str, allowed: AllowList) -> httpx.URL:
    """The URL, once its form has been judged; what its host resolves to is judged when it is called.

    Raises AddressRefusedError, which says what a URL must look like.
    """
    if len(text) > _LONGEST_URL:
        raise AddressRefusedError(f"the URL is longer than {_LONGEST_URL} characters")
    if "\\" in text or any(character <= " " or character == "\x7f" for character in text):
        raise AddressRefusedError("the URL has spaces, backslashes or control characters in it")
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise AddressRefusedError(f"the URL can't be read: {error}") from None
    host = url.raw_host.decode("ascii")
    if url.scheme not in ("https", "http") or not host:
        raise AddressRefusedError("the URL must look like https://host/path")
    if url.userinfo or "@" in _AUTHORITY.split(text, maxsplit=2)[1]:
        raise AddressRefusedError("the URL must not carry a user name or a password")
    _check_host(host)
    port = _TLS_PORT if url.scheme == "https" else 80
    port = port if url.port is None else url.port
    if not 0 < port < 65536:
        raise AddressRefusedError(f"there is no port {port}")
    if allowed.could_hold(host, port):
        return url
    if url.scheme != "https":
        raise AddressRefusedError(f"only https:// may be called; {_HOW_TO_ALLOW}")
    if port != _TLS_PORT and port < _FIRST_USER_PORT:
        raise AddressRefusedError(
            f"port {port} may not be called, only 443 and those from 1024 on; {_HOW_TO_ALLOW}"
        )
    with contextlib.suppress(ValueError):
        permitted([ip_address(host)], host, port, allowed)
    return url


def _check_host(host: str) -> None:
    try:
        IPv4Address(host)
    except ValueError:
        pass
    else:
        return
    if ":" in host:
        try:
            scope = IPv6Address(host).scope_id
        except ValueError:
            raise AddressRefusedError(f"{host} is not an address") from None
        if scope is not None:
            raise AddressRefusedError(f"{host} names an interface of this machine")
        return
    if not is_name(host):
        raise AddressRefusedError(f"{host} is not a host name")
    if _NUMERIC_LABEL.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise AddressRefusedError(f"{host} is not a host name; write an IPv4 address as four numbers")


def permitted(
    addresses: Iterable[Address], host: str, port: int, allowed: AllowList, *, cleartext: bool = False
) -> tuple[Address, ...]:
    """The addresses in their order, mapped ones as what they map, when each of them may be called.

    `cleartext`: without TLS, which only what is on the allow-list may be. Raises AddressRefusedError when
    any address is forbidden: a name that has both kinds isn't to be trusted with either.
    """
    judged = tuple(dict.fromkeys(map(plain, addresses)))
    if allowed.holds_host(host, port):
        return judged
    for address in judged:
        if allowed.holds(address, port):
            continue
        resolved = "" if str(address) == host else f"{host} resolves to "
        if kind := refusal(address):
            raise AddressRefusedError(f"{resolved}{address}, {kind}; {_HOW_TO_ALLOW}")
        if cleartext:
            raise AddressRefusedError(
                f"{resolved}{address}, which may be called by https:// only; {_HOW_TO_ALLOW}"
            )
        if port != _TLS_PORT and port < _FIRST_USER_PORT:
            raise AddressRefusedError(f"{resolved}{address}, whose port {port} may not be called")
    return judged


class Resolver:
    """Resolves host names; one lookup per host at a time, however many ask.

    Each lookup has a thread of its own, so that names whose servers don't answer delay nobody else.
    """

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._under_way: dict[str, asyncio.Task[list[Address]]] = {}
        self._free = asyncio.Semaphore(_MOST_LOOKUPS)

    async def addresses(self, host: str) -> list[Address]:
        """All addresses of a host, the preferred first, at least one. Raises OSError when it has none."""
        with contextlib.suppress(ValueError):
            return [ip_address(host)]
        task = self._under_way.get(host)
        if task is None:
            task = self._under_way[host] = asyncio.create_task(self._ask(host))
            task.add_done_callback(lambda done: self._end(host, done))
        return await asyncio.shield(task)

    def _end(self, host: str, done: asyncio.Task[list[Address]]) -> None:
        del self._under_way[host]
        if not done.cancelled():
            done.exception()  # whoever asked may have left meanwhile

    async def _ask(self, host: str) -> list[Address]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()

        def tell(addresses: list[Address] | None, error: OSError | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(addresses or [])

        def look_up() -> None:
            addresses, error = None, None
            try:
                addresses = self._look_up(host)
            except (OSError, ValueError) as failure:  # a name that can't be encoded is a ValueError
                error = failure if isinstance(failure, OSError) else OSError(str(failure))
            try:
                loop.call_soon_threadsafe(tell, addresses, error)
            except RuntimeError:
                return  # the loop has ended, and with it whoever asked

        async with self._free:
            threading.Thread(target=look_up, name=f"lookup-{host}", daemon=True).start()
            return await answer

    def _look_up(self, host: str) -> list[Address]:
        found = self._lookup(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        addresses = [ip_address(sockaddr[0]) for _family, _kind, _proto, _name, sockaddr in found]
        if not addresses:
            raise OSError(f"{host} has no address")
        return addresses


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects for httpcore, to permitted addresses only. `cleartext`: for connections without TLS."""

    def __init__(self, resolver: Resolver, allowed: AllowList, *, cleartext: bool) -> None:
        self._resolver = resolver
        self._allowed = allowed
        self._cleartext = cleartext
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's interface)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to one of the host's addresses, tried in their order.

        Raises AddressRefusedError, httpcore.ConnectError and httpcore.ConnectTimeout.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._resolver.addresses(host)
        except TimeoutError:
            raise httpcore.ConnectTimeout(f"{host} could not be resolved in time") from None
        except OSError as error:
            raise httpcore.ConnectError(f"{host} can't be resolved: {error.strerror or error}") from error
        addresses = permitted(found, host, port, self._allowed, cleartext=self._cleartext)
        failure: Exception | None = None
        for tried, address in enumerate(addresses):
            share = None
            if deadline is not None:
                # An address that swallows packets leaves the others their time.
                share = max(0.0, deadline - loop.time()) / (len(addresses) - tried)
            try:
                return await self._network.connect_tcp(
                    str(address), port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: raises AddressRefusedError."""
        raise AddressRefusedError("a delivery doesn't go to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """As httpcore asks for."""
        await asyncio.sleep(seconds)
