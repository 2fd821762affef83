"""Brings the views in ClickHouse up to this version: those that differ are made anew."""

from collections.abc import Sequence
from itertools import chain
from typing import Final

from clickhouse_connect.driver.client import Client

from sinks.views import windows
from sinks.views.view import View, written

_RECORD: Final = """
CREATE TABLE IF NOT EXISTS made_views
(
    name String COMMENT 'The view.',
    checksum String COMMENT 'SHA-256 of the statement that made it; empty: it was dropped.',
    made_at DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'When.'
)
ENGINE = ReplacingMergeTree(made_at) ORDER BY name
COMMENT 'The views that this version has made (sinks/views).'
"""


def views() -> list[View]:
    """Those of this version, in an order in which each can be made."""
    return list(chain(windows.views(), written()))


def make(client: Client, wanted: Sequence[View] | None = None) -> list[str]:
    """Makes the views that are missing or differ, drops those that are gone; their names.

    A view may read others: when one is made anew, those behind it are, too.
    """
    wanted = views() if wanted is None else wanted
    client.command(_RECORD)
    rows = client.query(
        "SELECT name, checksum FROM made_views FINAL WHERE checksum != '' AND name IN "
        "(SELECT name FROM system.tables WHERE database = currentDatabase())"
    ).result_rows
    made: dict[str, str] = {str(name): str(checksum) for name, checksum in rows}
    gone = [name for name in made if name not in {view.name for view in wanted}]
    for name in gone:
        client.command(f"DROP VIEW IF EXISTS {name}")
        _note(client, name, "")
    first = next((at for at, view in enumerate(wanted) if made.get(view.name) != view.checksum), len(wanted))
    for view in wanted[first:]:
        client.command(view.statement)
        _note(client, view.name, view.checksum)
    return [*gone, *(view.name for view in wanted[first:])]


def _note(client: Client, name: str, checksum: str) -> None:
    client.insert(
        "made_views", [[name, checksum]], column_names=["name", "checksum"], settings={"async_insert": 0}
    )
