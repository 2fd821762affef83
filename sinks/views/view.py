"""A view: its columns with what they mean, and the query."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, NamedTuple

from sinks.errors import MigrationError
from sinks.statements import statements

_NAME: Final = re.compile(r"CREATE OR REPLACE VIEW (\w+)")


class Column(NamedTuple):
    """A column of a view."""

    name: str
    type: str
    doc: str

    @property
    def sql(self) -> str:
        """As it is declared."""
        return f"`{self.name}` {self.type} COMMENT {_quoted(self.doc)}"


@dataclass(frozen=True)
class View:
    """A statement that makes a view, or makes it anew."""

    name: str
    statement: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the statement, in hexadecimal."""
        return hashlib.sha256(self.statement.encode()).hexdigest()


def view(name: str, doc: str, columns: Sequence[Column], query: str) -> View:
    """A view with these columns, which `query` selects."""
    declared = ",\n    ".join(column.sql for column in columns)
    return View(
        name, f"CREATE OR REPLACE VIEW {name}\n(\n    {declared}\n)\nAS {query}\nCOMMENT {_quoted(doc)}"
    )


def parameterized(name: str, doc: str, query: str) -> View:
    """A view that is called with parameters: `SELECT * FROM name(step = 'week', ...)`.

    It declares no columns: without the parameters ClickHouse can't tell them.
    """
    return View(name, f"CREATE OR REPLACE VIEW {name} AS {query}\nCOMMENT {_quoted(doc)}")


def written() -> Iterator[View]:
    """Those of `sinks/views/*.sql`. Raises MigrationError for a statement that makes no view."""
    for file in sorted(resources.files("sinks.views").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        for statement in statements(file.read_text(encoding="utf-8")):
            found = _NAME.match(statement)
            if found is None:
                raise MigrationError(
                    f"sinks/views/{file.name} has a statement that makes no view: {statement[:60]}"
                )
            yield View(found[1], statement)


def _quoted(text: str) -> str:
    """As a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
