"""How an agent's entries lie in the changelog, and which of them can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from streams.runtime.ledger import ENVELOPED, PLAIN, State, readable


def unreadable() -> float:
    labels = {"table": "chat.in-memory"}
    return REGISTRY.get_sample_value("chatgauge_stream_unreadable_entries_total", labels) or 0.0


@given(st.integers(0, 10_000), st.binary(), st.integers(-1, 2**62), st.binary())
def test_an_enveloped_entry_is_read_as_it_was_written(
    partition: int, key: bytes, through: int, state: bytes
) -> None:
    lies = ENVELOPED.key(partition, key), ENVELOPED.value(partition, through, state)
    assert ENVELOPED.read(*lies) == (key, State(through, state))


def test_the_form_of_an_enveloped_entry_stays() -> None:
    assert ENVELOPED.key(3, b"a|b") == b"3|a|b"
    assert ENVELOPED.value(3, 7, b"state").endswith(b"\x06\x0e\nstate")


@pytest.mark.parametrize("key", [b"", b"3", b"|a", b"x|a", b"-3|a", b"3.0|a"])
def test_a_key_without_a_partition_is_no_agents(key: bytes) -> None:
    with pytest.raises(ValueError, match=r"the key is not that of an agent's entry$"):
        ENVELOPED.read(key, ENVELOPED.value(3, 7, b"state"))


def test_a_plain_entry_lies_as_it_is_given_and_says_nothing_of_the_source() -> None:
    assert (PLAIN.key(3, b"k"), PLAIN.value(3, 7, b"state")) == (b"k", b"state")
    assert PLAIN.read(b"k", b"state") == (b"k", State(-1, b"state"))


def test_what_cannot_be_read_is_named_counted_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    good = {ENVELOPED.key(3, key): ENVELOPED.value(3, 7, key) for key in (b"a", b"z")}
    entries = {b"foreign": good[b"3|a"], b"3|a": good[b"3|a"], b"3|b": b"\xff", b"3|z": good[b"3|z"]}
    before = unreadable()

    read = readable(ENVELOPED, "chat.in-memory", 3, entries)

    assert read == {b"a": State(7, b"a"), b"z": State(7, b"z")}
    assert unreadable() == before + 2
    assert [message.partition(" can't")[0] for message in caplog.messages] == [
        "chat.in-memory/3: the entry b'foreign'",
        "chat.in-memory/3: the entry b'3|b'",
    ]
