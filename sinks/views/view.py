"""A view: its columns with what they mean, and the query."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"CREATE OR REPLACE VIEW (\w+)")


class Column(NamedTuple):
    """A column of a view."""

    name: str
    type: str
    doc: str

    @property
    def sql(self) -> str:
        """As it is declared."""
        return f"`{self.name}` {self.type} COMMENT '{self.doc.replace(chr(39), chr(39) * 2)}'"


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
    comment = doc.replace("'", "''")
    return View(name, f"CREATE OR REPLACE VIEW {name}\n(\n    {declared}\n)\nAS {query}\nCOMMENT '{comment}'")


def parameterized(name: str, doc: str, query: str) -> View:
    """A view that is called with parameters: `SELECT * FROM name(step = 'week', ...)`.

    It declares no columns: without the parameters ClickHouse can't tell them.
    """
    comment = doc.replace("'", "''")
    return View(name, f"CREATE OR REPLACE VIEW {name} AS {query}\nCOMMENT '{comment}'")


def written() -> Iterator[View]:
    """Those of `sinks/views/*.sql`. A statement ends with a semicolon at the end of a line."""
    for file in sorted(resources.files("sinks.views").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        lines = file.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("--"))
        for statement in re.split(r";[ \t]*\n", text + "\n"):
            if found := _NAME.match(statement.strip()):
                yield View(found[1], statement.strip())
