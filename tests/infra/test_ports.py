"""Taken ports are told with their holder and with what to do."""

import os
import socket
from collections.abc import Iterator

import pytest

from infra.errors import PortTakenError
from infra.ports import answers, free_port, holder, is_free, require_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_is_free_and_answers_nobody() -> None:
    port = free_port()

    assert is_free(port)
    assert not answers(port)
    assert holder(port) is None
    require_free(port, "never mind")


def test_a_taken_port_names_its_holder_and_the_remedy(taken: int) -> None:
    with pytest.raises(PortTakenError) as refusal:
        require_free(taken, "set CHATGAUGE_API_PORT")

    assert str(refusal.value).startswith(f"port {taken} is taken by pid {os.getpid()} (")
    assert str(refusal.value).endswith("): stop it or set CHATGAUGE_API_PORT")
    assert answers(taken)


def test_a_free_port_is_given_to_nobody_else_by_chance_and_may_be_listened_on() -> None:
    ours = {free_port() for _ in range(100)}

    assert len(ours) == 100
    for _ in range(2_000):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] not in ours
    for port in ours:
        socket.create_server(("127.0.0.1", port)).close()
