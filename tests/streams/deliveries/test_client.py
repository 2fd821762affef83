"""The client of all deliveries: what it sends, what it reads, and how long it takes at most."""

import asyncio
import gzip
import ssl
import time
from pathlib import Path

import pytest

from streams.deliveries.addresses import AllowList
from streams.deliveries.client import DeliveryClient
from streams.deliveries.errors import UnansweredError
from streams.deliveries.guard import Resolver
from tests.streams.deliveries.receivers import Authority, Names, Received, answer, receiver

LOCAL = AllowList.of(["127.0.0.0/8"])


async def test_the_body_arrives_as_it_is_with_the_headers_that_were_given() -> None:
    body = '{"name": "Zoë"}'.encode()
    async with receiver() as served, DeliveryClient(LOCAL) as client:
        answered = await client.post(f"{served.url}/hook?a=1", body, {"x-one": "1", "user-agent": "Mine"}, 5)

    (request,) = served.requests
    assert (answered.status, answered.text) == (200, "ok")
    assert (request.method, request.target, request.body) == ("POST", "/hook?a=1", body)
    assert request.headers == {
        "host": f"127.0.0.1:{served.port}",
        "user-agent": "Mine",
        "accept": "*/*",
        "accept-encoding": "identity",
        "content-length": str(len(body)),
        "x-one": "1",
    }


async def test_connections_are_used_again_while_they_are_fresh() -> None:
    async with receiver() as served, DeliveryClient(LOCAL) as client:
        for _ in range(5):
            await client.post(served.url, b"{}", {}, 5)

    assert len(served.requests) == 5
    assert served.connections == 1


async def test_a_body_that_drips_ends_with_the_time_and_the_status_counts() -> None:
    async def drip(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with receiver(drip) as served, DeliveryClient(LOCAL) as client:
        began = time.monotonic()
        answered = await client.post(served.url, b"{}", {}, 0.4)
        took = time.monotonic() - began

    assert answered.status == 200
    assert 0.3 < took < 10


async def test_headers_that_drip_are_no_answer() -> None:
    async def drip(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with receiver(drip) as served, DeliveryClient(LOCAL) as client:
        began = time.monotonic()
        with pytest.raises(UnansweredError, match=r"no answer within 0\.\d+ s"):
            await client.post(served.url, b"{}", {}, 0.4)
        took = time.monotonic() - began

    assert took < 10


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    sent = 0

    async def flood(_request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n")
        while sent < 500_000_000:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            sent += 0x4000
            await writer.drain()

    async with receiver(flood) as served, DeliveryClient(LOCAL) as client:
        answered = await client.post(served.url, b"{}", {}, 10)

    assert answered.status == 500
    assert answered.body == b"x" * 2048
    assert sent < 50_000_000


async def test_a_compressed_body_is_not_unpacked() -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    async with (
        receiver(answer(200, bomb, {"content-encoding": "gzip"})) as served,
        DeliveryClient(LOCAL) as client,
    ):
        answered = await client.post(served.url, b"{}", {}, 5)

    assert answered.body == bomb[:2048]


async def test_what_is_no_http_and_a_connection_that_breaks_off_are_told_apart_in_words() -> None:
    async def garbage(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")

    async def nothing(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with receiver(garbage) as mail, receiver(nothing) as silent, DeliveryClient(LOCAL) as client:
        with pytest.raises(UnansweredError, match="doesn't answer in HTTP"):
            await client.post(mail.url, b"{}", {}, 5)
        with pytest.raises(UnansweredError, match="disconnected without sending"):
            await client.post(silent.url, b"{}", {}, 5)
        with pytest.raises(UnansweredError, match=r"can't be reached|connection attempts? failed|refused"):
            await client.post("http://127.0.0.1:1/", b"{}", {}, 5)


async def test_a_slow_endpoint_delays_no_other() -> None:
    released = asyncio.Event()

    async def slow(request: Received, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await answer()(request, writer)

    async with receiver(slow) as stuck, receiver() as quick, DeliveryClient(LOCAL) as client:
        waiting = [asyncio.create_task(client.post(stuck.url, b"{}", {}, 20)) for _ in range(100)]
        began = time.monotonic()
        for _ in range(20):
            assert (await client.post(quick.url, b"{}", {}, 5)).status == 200
        took = time.monotonic() - began
        assert not any(task.done() for task in waiting)
        released.set()
        answers = await asyncio.gather(*waiting)

    assert [answered.status for answered in answers] == [200] * 100
    assert took < 15


async def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    known = Names()
    async with (
        receiver(host="127.0.0.1") as served,
        DeliveryClient(LOCAL, resolver=Resolver(known)) as client,
    ):
        known.says("many.example", ["127.0.0.9", "127.0.0.1"])
        answered = await client.post(f"http://many.example:{served.port}/", b"{}", {}, 5)

    assert answered.status == 200
    assert served.connections == 1


async def test_tls_is_checked_against_the_host_s_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    known = Names()
    known.says("hooks.example", ["127.0.0.1"])
    known.says("other.example", ["127.0.0.1"])
    async with (
        receiver(context=authority.context("hooks.example")) as served,
        DeliveryClient(LOCAL, resolver=Resolver(known), context=authority.trusted()) as client,
        DeliveryClient(LOCAL, resolver=Resolver(known)) as stranger,
    ):
        answered = await client.post(f"https://hooks.example:{served.port}/", b"{}", {}, 5)
        with pytest.raises(UnansweredError, match="can't be trusted: Hostname mismatch"):
            await client.post(f"https://other.example:{served.port}/", b"{}", {}, 5)
        with pytest.raises(UnansweredError, match="can't be trusted"):
            await stranger.post(f"https://hooks.example:{served.port}/", b"{}", {}, 5)

    assert answered.status == 200
    assert len(served.requests) == 1
    assert served.names == ["hooks.example", "other.example", "hooks.example"]


async def test_cancelling_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def drip(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
        try:
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            closed.set()

    async with receiver(drip) as served, DeliveryClient(LOCAL) as client:
        task = asyncio.create_task(client.post(served.url, b"{}", {}, 30))
        await asyncio.wait_for(served.arrived.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(closed.wait(), 5)


async def test_idle_connections_and_origins_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.deliveries.client._IDLE_S", 0.05)
    async with receiver() as served, DeliveryClient(LOCAL) as client:
        await client.post(served.url, b"{}", {}, 5)
        async with asyncio.timeout(5):
            while client._queues:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        answered = await client.post(served.url, b"{}", {}, 5)

    assert answered.status == 200
    assert served.connections == 2


def test_the_answer_s_text_has_no_control_characters() -> None:
    from streams.deliveries.client import Answer

    assert Answer(200, {}, b"a\x1b[31m\x00b\xff\n").text == "a�[31m�b�\n"


def test_everything_but_the_operator_s_own_authority_is_trusted_as_usual(tmp_path: Path) -> None:
    from streams.deliveries.client import trust

    authority = Authority(tmp_path)

    assert trust(None).verify_mode is ssl.CERT_REQUIRED
    assert trust(None).check_hostname
    assert len(trust(authority.file).get_ca_certs()) == len(trust(None).get_ca_certs()) + 1
