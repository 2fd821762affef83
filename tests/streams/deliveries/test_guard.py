"""No delivery reaches an address that is not public, whatever its URL looks like and its name resolves to.

A listener waits on every address of this machine, and every connection that the process tries to make is
watched: a refused delivery makes none.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator

import httpcore
import pytest

from streams.deliveries.addresses import AllowList
from streams.deliveries.client import DeliveryClient
from streams.deliveries.errors import AddressRefusedError, UnansweredError
from streams.deliveries.guard import GuardedBackend, Resolver, check_url
from tests.streams.deliveries.receivers import Names, Receiver, answer, receiver

_tried: list[object] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and _tried is not None:
        _tried.append(arguments[1])


sys.addaudithook(_watch)


@pytest.fixture
def tried() -> Iterator[list[object]]:
    """The addresses that connections were tried to."""
    global _tried
    _tried = []
    yield _tried
    _tried = None


@pytest.fixture
async def everywhere() -> AsyncIterator[Receiver]:
    """A server on all addresses of this machine, which must see nothing."""
    async with receiver(host="0.0.0.0") as forbidden:
        yield forbidden
    assert forbidden.connections == 0


PRIVATE = {
    "intranet.example": [["10.0.0.5"]],
    "localtest.example": [["127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
    "v6-loopback.example": [["::1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "nat64.example": [["64:ff9b::7f00:1"]],
    "local-nat64.example": [["64:ff9b:1::7f00:1"]],
    "six-to-four.example": [["2002:7f00:1::1"]],
    "teredo.example": [["2001:0:7f00:1::1"]],
    "cgnat.example": [["100.64.1.1"]],
    "ula.example": [["fd12:3456::1"]],
    "both.example": [["93.184.216.34", "127.0.0.1"]],
    "both-families.example": [["2606:4700:4700::1111", "127.0.0.1"]],
    "unspecified.example": [["0.0.0.0"]],
    "127.0.0.1.nip.example": [["127.0.0.1"]],
}

HOSTS = [
    "127.0.0.1",
    "127.0.0.2",
    "127.127.127.127",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.192",
    "168.63.129.16",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fc00::1]",
    "[ff02::1]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ip6-localhost",
    # What resolvers read as 127.0.0.1: decimal, octal, hexadecimal, with fewer parts, mixed.
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7F.1",
    "127.1",
    "127.0.1",
    "0",
    "0x0",
    "127.0.0.1.",
    # Digits of other scripts, which become these in IDNA.
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    *PRIVATE,
]


def names() -> Names:
    known = Names()
    for host, answers in PRIVATE.items():
        known.says(host, *answers)
    return known


def lookup_of(known: Names) -> object:
    """This test's names, and for everything else what this machine's resolver says."""

    def lookup(host: str, *arguments: object, **options: object) -> object:
        if host in known.answers:
            return known(host, *arguments, **options)
        return socket.getaddrinfo(host, *arguments, **options)  # type: ignore[arg-type]

    return lookup


def test_the_table_has_enough_rows() -> None:
    assert len(HOSTS) >= 40


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", HOSTS)
async def test_nothing_is_called_that_is_not_public(
    host: str, scheme: str, everywhere: Receiver, tried: list[object]
) -> None:
    async with DeliveryClient(resolver=Resolver(lookup_of(names()))) as client:  # type: ignore[arg-type]
        with pytest.raises((AddressRefusedError, UnansweredError)) as raised:
            await client.post(f"{scheme}://{host}:{everywhere.port}/hook", b"{}", {}, 5)

    # A name that can't be resolved on this machine is as good as refused.
    assert isinstance(raised.value, AddressRefusedError) or "can't be resolved" in str(raised.value)
    assert tried == []


@pytest.mark.parametrize("host", [host.strip("[]").replace("%25", "%") for host in HOSTS if host.isascii()])
async def test_the_connection_itself_is_guarded_for_hosts_of_any_form(
    host: str, everywhere: Receiver, tried: list[object]
) -> None:
    backend = GuardedBackend(Resolver(lookup_of(names())), AllowList(), cleartext=False)  # type: ignore[arg-type]

    with pytest.raises((AddressRefusedError, httpcore.ConnectError)) as raised:
        await backend.connect_tcp(host, everywhere.port, 5)

    assert isinstance(raised.value, AddressRefusedError) or "can't be resolved" in str(raised.value)
    assert tried == []


async def test_a_name_that_answers_differently_the_next_time_wins_nothing(tried: list[object]) -> None:
    known = Names()
    known.says("rebinding.example", ["127.0.0.2"], ["127.0.0.1"])
    # 127.0.0.2 stands for an address that may be called.
    async with (
        receiver(answer(headers={"connection": "close"}), host="127.0.0.2") as good,
        receiver(host="127.0.0.1", port=good.port) as forbidden,
        DeliveryClient(AllowList.of(["127.0.0.2"]), resolver=Resolver(known)) as client,
    ):
        url = f"http://rebinding.example:{good.port}/hook"
        first = await client.post(url, b"{}", {}, 5)
        asked_by_then = len(known.asked)
        with pytest.raises(AddressRefusedError, match=r"127\.0\.0\.1, a loopback address"):
            await client.post(url, b"{}", {}, 5)

        assert first.status == 200
        assert asked_by_then == 1
        assert good.requests[0].headers["host"] == f"rebinding.example:{good.port}"
        assert forbidden.connections == 0
        assert tried == [("127.0.0.2", good.port)]


async def test_a_name_that_flips_with_every_lookup_never_gets_through(tried: list[object]) -> None:
    known = Names()
    known.says("flipping.example", *([["127.0.0.2"], ["127.0.0.1"]] * 20))
    async with (
        receiver(answer(headers={"connection": "close"}), host="127.0.0.2") as good,
        receiver(host="127.0.0.1", port=good.port) as forbidden,
        DeliveryClient(AllowList.of(["127.0.0.2"]), resolver=Resolver(known)) as client,
    ):
        url = f"http://flipping.example:{good.port}/hook"
        outcomes = await asyncio.gather(
            *(client.post(url, b"{}", {}, 5) for _ in range(20)), return_exceptions=True
        )
        outcomes += [
            (await asyncio.gather(client.post(url, b"{}", {}, 5), return_exceptions=True))[0]
            for _ in range(20)
        ]

        assert any(isinstance(outcome, AddressRefusedError) for outcome in outcomes)
        assert forbidden.connections == 0
        assert set(tried) == {("127.0.0.2", good.port)}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    async with receiver(host="127.0.0.1") as forbidden:
        redirecting = answer(status, b"", {"location": f"http://127.0.0.1:{forbidden.port}/"})
        async with (
            receiver(redirecting, host="127.0.0.2") as good,
            DeliveryClient(AllowList.of(["127.0.0.2"])) as client,
        ):
            answered = await client.post(f"{good.url}/hook", b"{}", {}, 5)

            assert answered.status == status
            assert len(good.requests) == 1
            assert forbidden.connections == 0


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver(host="127.0.0.1") as proxy, receiver(host="127.0.0.2") as good:
        for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        async with DeliveryClient(AllowList.of(["127.0.0.2"])) as client:
            await client.post(f"{good.url}/hook", b"{}", {}, 5)

        assert len(good.requests) == 1
        assert proxy.connections == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org@127.0.0.1/",
        "https://user:password@example.org/",
        "https://@example.org/",
        "https://example.org\\@127.0.0.1/",
        "https://127.0.0.1\\.example.org/",
        "https://exa mple.org/",
        "https://example.org/\r\nX-Injected: 1",
        "https://example.org/\x00",
        "https://127.0.0.1%2f.example.org/",
        "https://127.0.0.1%00.example.org/",
        "https://ex%61mple.org/",
        "https://a..b/",
        "https://-a.example.org-/",
        f"https://{'a' * 64}.example.org/",
        f"https://{'a.' * 150}org/",
        "https://[::1/",
        "https://[v1.a]/",
        "https://[2606:4700::1%25eth0]/",
        "https:///hook",
        "https:/example.org",
        "//example.org/",
        "example.org/hook",
        "",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "unix:///var/run/docker.sock",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:22/",
        "https://example.org:25/",
        "https://example.org:80/",
        "http://example.org/",
        "http://example.org:8080/",
        f"https://example.org/{'a' * 2048}",
    ],
)
def test_a_url_of_the_wrong_form_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        check_url(url, AllowList())


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org",
        "https://example.org/hook?token=1#part",
        "https://example.org:8443/hook",
        "https://my_hooks.example.org./",
        "https://münchen.example/",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]:443/",
        "https://127.0.0.1.example.org/",
        "https://example.org/@127.0.0.1",
        "https://1password.example/",
    ],
)
def test_an_ordinary_url_is_taken(url: str) -> None:
    assert check_url(url, AllowList()).scheme == "https"


async def test_what_is_on_the_allow_list_is_called_also_without_tls_and_only_there(
    tried: list[object],
) -> None:
    async with receiver(host="127.0.0.1") as internal, receiver(host="127.0.0.1") as other:
        known = Names()
        known.says("hooks.internal", ["127.0.0.1"])
        allowed = AllowList.of([f"hooks.internal:{internal.port}", f"127.0.0.1:{internal.port}"])
        async with DeliveryClient(allowed, resolver=Resolver(known)) as client:
            for host in ("hooks.internal", "127.0.0.1"):
                answered = await client.post(f"http://{host}:{internal.port}/", b"{}", {}, 5)
                assert answered.status == 200
                with pytest.raises(AddressRefusedError, match="CHATGAUGE_DELIVERY_ALLOW"):
                    await client.post(f"http://{host}:{other.port}/", b"{}", {}, 5)

        assert len(internal.requests) == 2
        assert other.connections == 0


async def test_a_public_host_is_not_called_without_tls_because_a_network_is_allowed(
    tried: list[object],
) -> None:
    known = Names()
    known.says("public.example", ["93.184.216.34"])
    async with DeliveryClient(AllowList.of(["10.0.0.0/8"]), resolver=Resolver(known)) as client:
        with pytest.raises(AddressRefusedError, match="https:// only"):
            await client.post("http://public.example:8080/", b"{}", {}, 5)

    assert tried == []


async def test_a_lookup_that_hangs_delays_no_other_name() -> None:
    released = asyncio.Event()
    loop = asyncio.get_running_loop()
    known = Names()
    known.says("good.example", ["127.0.0.2"])
    asked: list[str] = []

    def lookup(host: str, *arguments: object, **options: object) -> list[tuple[object, ...]]:
        asked.append(host)
        if host == "hanging.example":
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
            raise OSError("no answer")
        return known(host, None)

    async with (
        receiver(host="127.0.0.2") as good,
        DeliveryClient(AllowList.of(["127.0.0.2"]), resolver=Resolver(lookup)) as client,
    ):
        hanging = [
            asyncio.create_task(client.post("https://hanging.example/", b"{}", {}, 0.3)) for _ in range(50)
        ]
        answered = await client.post(f"http://good.example:{good.port}/", b"{}", {}, 5)
        failures = await asyncio.gather(*hanging, return_exceptions=True)
        released.set()

    assert answered.status == 200
    assert all(isinstance(failure, UnansweredError) for failure in failures)
    # However many wait for a name, it is asked for once at a time.
    assert asked.count("hanging.example") == 1
