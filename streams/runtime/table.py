"""The Faust table below a changelog: Faust assigns its partitions and recovers it, by the fetch."""

from collections.abc import Iterable
from typing import Any, cast

import faust
from faust.types import EventT

from infra.liveness import Unit
from schemas.topics import Topic
from streams.runtime.changelog import Changelog
from streams.runtime.entries import Entry, rank_of
from streams.runtime.fetch import Fetch
from streams.runtime.transport import Records


class ChangelogTable(faust.Table[bytes, bytes]):
    """Hands what Faust recovers to the changelog, which keeps the entries. Faust's own store stays empty."""

    changelog: Changelog
    unit: Unit

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Take up fetches of the changelog."""
        for event in batch:
            fetch = cast("Fetch", event.value)
            entries = (
                Entry(record.offset, record.key, record.value, rank_of(getattr(record, "headers", ())))
                for record in fetch.records
            )
            self.changelog.recover(fetch.partition, entries, fetch.next_offset)
            self.unit.progress()


def add_table(app: faust.App, topic: Topic, partitions: int) -> ChangelogTable:
    """A table whose changelog is `topic`."""
    table = ChangelogTable(
        app,
        name=topic.name.replace(".", "-"),
        beacon=app.tables.beacon,
        partitions=partitions,
        changelog_topic=app.topic(topic.name, acks=False, schema=Records()),
    )
    app.tables.add(table)
    return table
