"""The feed: what it sends is on the topic as it says, and it outlives its broker."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka import LocalKafka
from infra.ports import free_port
from tests.conftest import CreateTopics
from tests.end_to_end.log import Log, Record
from tests.end_to_end.recomputation import micros, read
from tests.faults.feed import Feed
from tests.faults.mix import BAD, HOUR, MINUTE, MIX, Mixer

NOW = 1_770_000_000_000_000


def mixer(**settings: object) -> Mixer:
    return Mixer(**({"seed": 7, "clock": lambda: NOW, "plain_first": 10} | settings))  # type: ignore[arg-type]


def arrived(value: bytes | None, offset: int = 0) -> Record:
    return Record(0, offset, NOW // 1_000, b"key", value)


def test_the_same_seed_makes_the_same_messages() -> None:
    assert list(mixer().messages(2_000)) == list(mixer().messages(2_000))
    assert list(mixer(seed=8).messages(10)) != list(mixer().messages(10))


def test_every_kind_of_the_mix_is_sent() -> None:
    kinds = Counter(message.kind for message in mixer().messages(12_000))

    assert MIX.keys() - {"bad"} <= kinds.keys()
    assert sum(count for kind, count in kinds.items() if kind.startswith("bad_")) > 60
    assert kinds["finished"] > 8_000


def test_repeats_are_the_same_bytes_by_the_same_key() -> None:
    first: dict[str, tuple[bytes, bytes | None]] = {}
    repeats = 0
    for message in mixer().messages(6_000):
        if message.kind.startswith("repeat"):
            key, value = first[message.event_id]
            assert value == message.value
            assert (key == message.key) is (message.kind != "repeat_elsewhere")
            repeats += 1
        first.setdefault(message.event_id, (message.key, message.value))
    assert repeats > 300


def test_what_is_bad_is_bad_for_the_reason_given() -> None:
    reasons: dict[str, Counter[str]] = {}
    for message in mixer().messages(1_000, "bad"):
        reason = read(arrived(message.value))
        assert isinstance(reason, str), message.kind
        reasons.setdefault(message.kind.removeprefix("bad_"), Counter())[reason] += 1

    assert {name: list(found) for name, found in reasons.items()} == {
        name: [reason] for name, (reason, _) in BAD.items()
    }
    assert all(found.total() > 20 for found in reasons.values())


def test_times_are_those_of_the_kind() -> None:
    def ages(kind: str) -> list[int]:
        events = [read(arrived(message.value)) for message in mixer().messages(200, kind)]
        assert all(isinstance(event, dict) for event in events), events[0]
        return [NOW - micros(event["occurred_at"]) for event in events if isinstance(event, dict)]

    assert 0 <= min(ages("late")) < 10 * MINUTE
    assert 50 * MINUTE < max(ages("late")) < HOUR
    assert -4 * MINUTE < min(ages("ahead")) < -3 * MINUTE
    assert min(ages("too_late")) > 48 * HOUR
    assert min(ages("imported")) > 24 * 365 * HOUR
    future = {read(arrived(message.value)) for message in mixer().messages(50, "in_the_future")}
    assert future == {"in_the_future"}


@pytest.fixture
def broker(tmp_path: Path, create_topics: CreateTopics) -> Iterator[LocalKafka]:
    kafka = LocalKafka(tmp_path / "kafka", port=free_port())
    kafka.start()
    try:
        create_topics(kafka.bootstrap, partitions=3)
        yield kafka
    finally:
        kafka.stop()


def test_what_is_acknowledged_is_on_the_topic_over_a_restart_of_the_broker(broker: LocalKafka) -> None:
    feed = Feed(broker.bootstrap, rate=1_000, seed=3)
    feed.burst(500)
    with feed:
        feed.settle()
        broker.stop()
        feed.imports(50)
        broker.start()
        feed.all_bad(50)
        feed.settle()
        feed.all_of("large", 2)

    records = {(one.partition, one.offset): one for one in Log(broker.bootstrap).records("chat.requests")}
    assert feed.places.keys() <= records.keys()
    assert len(feed.places) == feed.acknowledged >= 600
    for sent in feed.sent:
        event = read(records[sent.partition, sent.offset])
        if isinstance(event, dict):
            assert event["event_id"] == sent.event_id
        elif sent.kind.startswith("bad_"):
            assert event == BAD[sent.kind.removeprefix("bad_")][0]
    kinds = Counter(sent.kind.partition("_")[0] for sent in feed.sent)
    assert kinds["imported"] >= 50
    assert kinds["bad"] >= 50
    assert kinds["large"] >= 2
