"""What Faust recovers reaches the changelog: entries with their ranks, and how far they go."""

from collections.abc import Iterable
from typing import Any, cast

import faust
import pytest
from faust.types import TP, EventT, Message

from clients.kafka.fetched import Fetched
from infra.liveness import Unit
from infra.settings import KafkaSettings
from schemas.record_batch import split
from schemas.topics import ALERT_STATE
from streams.runtime.application import new_app
from streams.runtime.changelog import Changelog
from streams.runtime.entries import RANK_HEADER, Entry, Rank
from streams.runtime.fetch import Fetch
from streams.runtime.table import ChangelogTable, add_table
from streams.runtime.transport import Records
from tests.schemas.batches import Sent, batch

RANK = Rank(3, 4)
HEADERS = ((RANK_HEADER.encode(), RANK.encode()),)


class Recovered:
    """What a changelog is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, list[Entry], int]] = []

    def recover(self, partition: int, entries: Iterable[Entry], next_offset: int) -> None:
        self.told.append((partition, list(entries), next_offset))


@pytest.fixture
def app() -> faust.App:
    return new_app("in-memory", KafkaSettings(bootstrap="127.0.0.1:9"), partitions=4, max_fetch=100)


def event(table: ChangelogTable, partition: int, first: int, records: list[Sent], end: int) -> EventT[Any]:
    fetched = Fetched(first, end, list(split(batch(cast("Any", records), first))) if records else [])
    topic = ALERT_STATE.name
    message = Message(
        *(topic, partition, end - 1, 0.0, 1, None, None, cast("Any", Fetch(topic, partition, fetched))),
        *(None, 0, 0, TP(topic, partition)),
    )
    return cast("EventT[Any]", faust.Event(table.app, None, message.value, None, message))


async def test_fetches_are_recovered_with_their_ranks_and_ends(app: faust.App) -> None:
    table = add_table(app, ALERT_STATE, 4)
    table.changelog = cast("Changelog", recovered := Recovered())
    table.unit = Unit("test")

    table.apply_changelog_batch(
        [
            event(table, 2, 10, [Sent(b"v", b"k", HEADERS), Sent(None, b"l", HEADERS)], 14),
            event(table, 2, 14, [], 15),
            event(table, 0, 0, [Sent(b"w", None)], 1),
        ]
    )

    assert recovered.told == [
        (2, [Entry(10, b"k", b"v", RANK), Entry(11, b"l", None, RANK)], 14),
        (2, [], 15),
        (0, [Entry(0, None, b"w", None)], 1),
    ]
    assert table.unit.moves() == 3, "to recover a fetch is to get on"


async def test_a_garbled_batch_without_headers_is_recovered_as_far_as_it_goes(app: faust.App) -> None:
    table = add_table(app, ALERT_STATE, 4)
    table.changelog = cast("Changelog", recovered := Recovered())
    table.unit = Unit("test")
    [whole] = split(batch([Sent(b"v", b"k", HEADERS), Sent(b"w", b"l", HEADERS)], count=3, last=2))
    fetch = Fetch(ALERT_STATE.name, 1, Fetched(0, 3, [whole]))
    message = Message(
        *(ALERT_STATE.name, 1, 2, 0.0, 1, None, None, cast("Any", fetch), None, 0, 0),
        TP(ALERT_STATE.name, 1),
    )

    table.apply_changelog_batch([cast("EventT[Any]", faust.Event(app, None, fetch, None, message))])

    assert recovered.told == [(1, [Entry(0, b"k", b"v", None), Entry(1, b"l", b"w", None)], 3)]


async def test_the_table_is_one_of_the_applications_and_its_changelog_the_topic(app: faust.App) -> None:
    table = add_table(app, ALERT_STATE, 4)

    assert app.tables["chat-alert-state"] is table
    assert table.changelog_topic.get_topic_name() == "chat.alert-state"
    assert table.changelog_topic.acks is False, "nobody acknowledges a changelog's records"
    assert isinstance(table.changelog_topic.schema, Records), "it is handed through as it was fetched"
    assert table.partitions == 4
    assert app.tables.changelog_topics == {"chat.alert-state"}
    assert table.beacon.parent is app.tables.beacon, "if it fails, the application does"
