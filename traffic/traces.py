"""Reading recorded traffic: CSV files whose lines are chat requests."""

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from schemas.validity import rules
from traffic.errors import ColumnMapError, EmptyTraceError, TrafficError, UnknownTraceError
from traffic.fields import FIELDS, Column
from traffic.formats import KNOWN, Format

_CHUNK = 50_000
_REPORT_BYTES = 1 << 20
_AT_LEAST = {"service": "replay", "provider": "unknown", "model": "unknown"}
_FAULTS_KEPT = 100


@dataclass(frozen=True)
class Fault:
    """A line that could not be read."""

    line: int
    """Its number in the file; the header is line 1."""
    reason: str


@dataclass
class Faults:
    """How many lines could not be read, and the first hundred of them."""

    count: int = 0
    first: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        self.count += 1
        if len(self.first) < _FAULTS_KEPT:
            self.first.append(fault)


@dataclass(frozen=True)
class Trace:
    """A file that was read.

    `requests` has one row per good line, in the order of time: `_line`, its number, `occurred_at` in
    microseconds since 1970, and those fields of RequestEvent that the file or its format knows.
    """

    format: str
    digest: bytes
    """Of the file's content."""
    requests: pl.DataFrame
    faults: Faults


def read_trace(
    path: Path,
    columns: Mapping[str, Column] | None = None,
    constants: Mapping[str, str] | None = None,
    on_read: Callable[[int], None] = lambda size: None,
) -> Trace:
    """Reads a trace; `columns` says where the fields stand, unless the header is a known one.

    `constants` are fields that hold for every line, whatever the file says. `on_read` is told of the
    bytes that were read since the last time.

    Raises UnknownTraceError, ColumnMapError, EmptyTraceError, or TrafficError if the file can't be opened.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.name, columns, constants or {}, on_read)
    except OSError as error:
        raise TrafficError(f"{path} cannot be read: {error.strerror}") from error


def _read(
    file: BinaryIO,
    name: str,
    columns: Mapping[str, Column] | None,
    constants: Mapping[str, str],
    on_read: Callable[[int], None],
) -> Trace:
    digest = hashlib.sha256()
    first = file.readline()
    digest.update(first)
    try:
        header = [cell.strip() for cell in _cells(first.removeprefix(b"\xef\xbb\xbf"))]
    except ValueError as error:
        raise UnknownTraceError(f"{name} begins with a line that {error}: this takes CSV files") from None
    form = _format(name, header, columns)
    faults = Faults()
    chunks = list(_chunks(file, digest.update, form, header, faults, on_read))
    if chunks:
        requests = _completed(form, pl.concat(chunks), constants, faults)
        if len(requests):
            return Trace(form.name, digest.digest(), requests, faults)
    detail = f"; the first: line {faults.first[0].line} {faults.first[0].reason}" if faults.first else ""
    raise EmptyTraceError(
        f"{name} (read as {form.name}) has no line that can be read, and {faults.count:,} that can't{detail}"
    )


def _completed(
    form: Format, lines: pl.DataFrame, constants: Mapping[str, str], faults: Faults
) -> pl.DataFrame:
    """The requests that the lines tell of, in the order of time; those that can't be true are faults."""
    requests = form.finish(lines)
    fixed = {**form.constants, **constants}
    requests = requests.with_columns(**{name: pl.lit(value) for name, value in fixed.items()})
    # Every request has these, known or not.
    for name, unknown in _AT_LEAST.items():
        column = pl.col(name).fill_null(unknown) if name in requests.columns else pl.lit(unknown)
        requests = requests.with_columns(column.alias(name))
    requests = requests.select("_line", *(name for name in FIELDS if name in requests.columns))
    for rule in rules("RequestEvent"):
        if set(rule.needs) <= set(requests.columns):
            broken = requests.select(rule.broken.fill_null(value=False)).to_series()
            for line in requests.filter(broken)["_line"]:
                faults.add(Fault(line, rule.what))
            requests = requests.filter(~broken)
    return requests.sort("occurred_at", maintain_order=True)


def _format(name: str, header: list[str], columns: Mapping[str, Column] | None) -> Format:
    if columns:
        missing = [column.name for column in columns.values() if column.name not in header]
        if missing:
            raise ColumnMapError(
                f"{name} has no column {', '.join(missing)}; it has {', '.join(header) or 'no header'}"
            )
        return Format("mapped columns", columns)
    for known in KNOWN:
        if known.fits(header):
            return known
    listed = "\n".join(
        f"  {known.name}: {', '.join(column.name for column in known.columns.values())}" for known in KNOWN
    )
    raise UnknownTraceError(
        f"the header of {name} is not known: {', '.join(header) or '(empty)'}\n"
        f"Known are files with the columns of\n{listed}\n"
        "For any other file, say which column holds what, e.g.\n"
        "  --map occurred_at=timestamp --map prompt_tokens=input --map total_us=latency:ms\n"
        f"Fields: {', '.join(FIELDS)}"
    )


def _chunks(
    file: BinaryIO,
    digest: Callable[[bytes], None],
    form: Format,
    header: list[str],
    faults: Faults,
    on_read: Callable[[int], None],
) -> Iterator[pl.DataFrame]:
    """The good lines as frames of at most 50,000 rows."""
    wanted = [(header.index(column.name), column.value) for column in form.columns.values()]
    schema: dict[str, Any] = {"_line": pl.Int64} | {
        name: column.kind.dtype for name, column in form.columns.items()
    }
    rows: list[list[Any]] = []
    size = 0
    for number, line in enumerate(file, start=2):
        digest(line)
        size += len(line)
        if line.isspace():
            continue
        try:
            cells = _cells(line)
            if len(cells) != len(header):
                raise ValueError(f"has {len(cells)} columns, the header {len(header)}")
            rows.append([number, *(value(cells[place]) for place, value in wanted)])
        except ValueError as error:
            faults.add(Fault(number, str(error)))
        if len(rows) == _CHUNK:
            yield pl.DataFrame(rows, schema, orient="row")
            rows = []
        if size > _REPORT_BYTES:
            on_read(size)
            size = 0
    on_read(size)
    if rows:
        yield pl.DataFrame(rows, schema, orient="row")


def _cells(line: bytes) -> list[str]:
    """The cells of one line. Raises ValueError, with the reason, for a line that isn't CSV.

    Lines are taken one by one, so that a lost quote spoils one line and not the rest of the file.
    """
    try:
        return next(csv.reader([line.decode("utf-8").rstrip("\r\n")], strict=True), [])
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None
