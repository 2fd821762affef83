"""The registry's client, against a server on loopback."""

import json
import socket

import pytest

from schemas.errors import RegistryRejectedError, RegistryUnavailableError
from schemas.registry import SchemaRegistry
from tests.schemas.conftest import RegistryServer
from tests.schemas.events import REQUEST


def test_a_schema_is_registered_once_under_the_topics_subject(
    registry: SchemaRegistry, registry_server: RegistryServer
) -> None:
    number = registry.register("chat.requests", REQUEST)
    assert registry.register("chat.requests", REQUEST) == number
    assert registry_server.subjects == {"chat.requests-value": [number]}
    assert registry_server.asked == ["POST /apis/ccompat/v7/subjects/chat.requests-value/versions"]


def test_lookup_finds_only_what_is_registered(
    registry: SchemaRegistry, registry_server: RegistryServer
) -> None:
    with pytest.raises(RegistryRejectedError, match="404"):
        registry.lookup("chat.requests", REQUEST)
    number = registry_server.add(json.dumps(REQUEST.definition))
    registry_server.subjects["chat.requests-value"] = [number]
    assert registry.lookup("chat.requests", REQUEST) == number


def test_a_schema_is_fetched_by_id_once(registry: SchemaRegistry, registry_server: RegistryServer) -> None:
    number = registry_server.add(json.dumps(REQUEST.definition))
    assert registry.schema(number).fingerprint == REQUEST.fingerprint
    assert registry.schema(number).definition == REQUEST.definition
    assert len(registry_server.asked) == 1


def test_an_unknown_id_is_asked_for_again_only_after_a_minute(registry_server: RegistryServer) -> None:
    now = [0.0]
    with SchemaRegistry(registry_server.url, clock=lambda: now[0]) as registry:
        for _ in range(3):
            with pytest.raises(RegistryRejectedError):
                registry.schema(1)
        assert len(registry_server.asked) == 1
        registry_server.add(json.dumps(REQUEST.definition))
        now[0] = 61.0
        assert registry.schema(1).name == "RequestEvent"


@pytest.mark.parametrize("text", ["not JSON", '"string"', '{"type": "record"}', "[]"])
def test_an_id_of_something_else_is_rejected(
    registry: SchemaRegistry, registry_server: RegistryServer, text: str
) -> None:
    number = registry_server.add(text)
    with pytest.raises(RegistryRejectedError, match="no such schema"):
        registry.schema(number)


def test_a_protobuf_schema_is_rejected(registry: SchemaRegistry, registry_server: RegistryServer) -> None:
    number = registry_server.add("syntax = 'proto3';")
    registry_server.types[number] = "PROTOBUF"
    with pytest.raises(RegistryRejectedError, match="PROTOBUF"):
        registry.schema(number)


def test_an_incompatible_schema_is_rejected_with_the_registrys_words(registry: SchemaRegistry) -> None:
    with pytest.raises(RegistryRejectedError, match="409 Schema is incompatible"):
        registry.register(
            "chat.requests", type(REQUEST).of({"type": "record", "name": "incompatible", "fields": []})
        )


def test_passing_trouble_is_waited_out(registry_server: RegistryServer) -> None:
    pauses: list[float] = []
    registry_server.faults.extend([503, 429, 500])
    with SchemaRegistry(registry_server.url, sleep=pauses.append) as registry:
        assert registry.register("chat.requests", REQUEST) == 1
    assert pauses == sorted(pauses)
    assert len(pauses) == 3


def test_lasting_trouble_ends_in_an_error_that_says_where(
    registry: SchemaRegistry, registry_server: RegistryServer
) -> None:
    registry_server.faults.extend([503] * 4)
    with pytest.raises(RegistryUnavailableError, match=r"503 out of order.*CHATGAUGE_SCHEMA_REGISTRY_URL"):
        registry.schema(1)
    registry_server.add(json.dumps(REQUEST.definition))
    assert registry.schema(1).name == "RequestEvent", "nothing was concluded about the id"


def test_nobody_listening_is_lasting_trouble() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with SchemaRegistry(url, sleep=lambda _: None) as registry, pytest.raises(RegistryUnavailableError):
            registry.schema(1)
