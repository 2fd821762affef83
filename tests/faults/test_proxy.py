"""The faulty network, against a server that answers every line with the same line."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.faults.proxy import Proxy

SOON_S = 0.3
"""What has not come by then is not coming."""


class Echo(socketserver.ThreadingTCPServer):
    """Answers lines, and remembers them."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.lines: list[bytes] = []
        self.came = threading.Condition()
        self.broken = threading.Event()

    def wait_for(self, *lines: bytes) -> None:
        with self.came:
            assert self.came.wait_for(lambda: self.lines == list(lines), timeout=5), self.lines


class Answering(socketserver.StreamRequestHandler):
    server: Echo

    def handle(self) -> None:
        try:
            for line in self.rfile:
                with self.server.came:
                    self.server.lines.append(line)
                    self.server.came.notify_all()
                self.wfile.write(line)
        except OSError:
            self.server.broken.set()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    host, port = echo.server_address[:2]
    with Proxy((str(host), port)) as between:
        yield between


class Client:
    """A connection through the proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, line: bytes) -> None:
        self.socket.sendall(line)

    def receive(self) -> bytes:
        return self.socket.recv(1_000)

    def ask(self, line: bytes) -> bytes:
        self.send(line)
        return self.receive()

    def hears_nothing(self) -> bool:
        self.socket.settimeout(SOON_S)
        try:
            self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(5)
        return False


def connect_and_receive(proxy: Proxy) -> bytes:
    """The reset may come as soon as the connection stands."""
    with Client(proxy) as client:
        return client.receive()


def test_what_is_sent_arrives_and_so_does_the_end(proxy: Proxy, echo: Echo) -> None:
    with Client(proxy) as client:
        assert client.ask(b"a\n") == b"a\n"
        client.socket.shutdown(socket.SHUT_WR)
        assert client.receive() == b""


def test_large_messages_pass_whole(proxy: Proxy) -> None:
    sent = b"x" * 5_000_000 + b"\n"
    with Client(proxy) as client:
        sending = threading.Thread(target=client.send, args=(sent,))
        sending.start()
        received = bytearray()
        while len(received) < len(sent):
            received += client.receive()
        sending.join()
    assert received == sent


@pytest.mark.alone
def test_a_delay_counts_each_way_and_does_not_narrow_the_line(proxy: Proxy) -> None:
    with Client(proxy) as client:
        client.ask(b"warm\n")
        proxy.delay(0.15)
        began = time.monotonic()
        client.send(b"a\n")
        time.sleep(0.05)
        client.send(b"b\n")
        received = b""
        while len(received) < 4:
            received += client.receive()
        assert received == b"a\nb\n"
        assert 0.34 < time.monotonic() - began < 0.6


def test_a_reset_is_one_on_both_sides(proxy: Proxy, echo: Echo) -> None:
    with Client(proxy) as client:
        client.ask(b"a\n")
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            client.receive()
    assert echo.broken.wait(5)
    with Client(proxy) as another:
        assert another.ask(b"b\n") == b"b\n"


def test_while_frozen_nothing_passes_and_all_arrives_once_thawed(proxy: Proxy, echo: Echo) -> None:
    with Client(proxy) as before:
        before.ask(b"a\n")
        proxy.freeze()
        before.send(b"b\n")
        with Client(proxy) as during:
            during.send(b"c\n")
            assert before.hears_nothing()
            assert echo.lines == [b"a\n"]
            proxy.thaw()
            assert before.receive() == b"b\n"
            assert during.receive() == b"c\n"


def test_a_sender_who_gave_up_while_frozen_is_heard_late(proxy: Proxy, echo: Echo) -> None:
    with Client(proxy) as client:
        client.ask(b"a\n")
        proxy.freeze()
        client.send(b"late\n")
    time.sleep(SOON_S)
    assert echo.lines == [b"a\n"]
    proxy.thaw()
    echo.wait_for(b"a\n", b"late\n")


def test_a_lost_answer_is_to_a_request_that_arrived(proxy: Proxy, echo: Echo) -> None:
    with Client(proxy) as client:
        client.ask(b"a\n")
        proxy.lose_responses(1)
        client.send(b"b\n")
        with pytest.raises(ConnectionResetError):
            client.receive()
    assert echo.lines == [b"a\n", b"b\n"]
    assert proxy.lost == 1
    with Client(proxy) as again:
        assert again.ask(b"b\n") == b"b\n"


def test_only_answers_to_marked_requests_are_lost(proxy: Proxy, echo: Echo) -> None:
    proxy.lose_responses(1, marker=b"INSERT")
    with Client(proxy) as reading, Client(proxy) as writing:
        assert reading.ask(b"SELECT\n") == b"SELECT\n"
        writing.send(b"INS")
        echoed_nothing = writing.hears_nothing()
        writing.send(b"ERT\n")
        with pytest.raises(ConnectionResetError):
            writing.receive()
        assert reading.ask(b"SELECT\n") == b"SELECT\n"
    assert echoed_nothing
    assert b"INSERT\n" in echo.lines


def test_who_is_refused_is_told_at_once_and_the_others_stay(proxy: Proxy) -> None:
    with Client(proxy) as present:
        present.ask(b"a\n")
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            connect_and_receive(proxy)
        assert present.ask(b"c\n") == b"c\n"
        proxy.accept()
        with Client(proxy) as taken:
            assert taken.ask(b"d\n") == b"d\n"


def test_cleared_all_is_well(proxy: Proxy) -> None:
    proxy.delay(5)
    proxy.freeze()
    proxy.refuse()
    proxy.lose_responses(3)
    proxy.clear()
    with Client(proxy) as client:
        assert client.ask(b"a\n") == b"a\n"


def test_a_target_that_is_away_resets_and_is_found_when_it_is_back() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with Proxy(("127.0.0.1", port)) as proxy:
        with pytest.raises(ConnectionResetError):
            connect_and_receive(proxy)
        with socket.create_server(("127.0.0.1", port)) as back, Client(proxy) as client:
            client.send(b"a\n")
            accepted, _ = back.accept()
            with accepted:
                assert accepted.recv(10) == b"a\n"


def test_stopped_and_started_again_it_has_the_same_port(echo: Echo) -> None:
    host, target = echo.server_address[:2]
    proxy = Proxy((str(host), target))
    proxy.start()
    port = proxy.port
    with Client(proxy) as client:
        client.ask(b"a\n")
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            client.receive()
    proxy.start()
    with Client(proxy) as client:
        assert client.ask(b"b\n") == b"b\n"
    proxy.stop()
    assert proxy.port == port
