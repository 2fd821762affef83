"""Avro bodies read byte by byte in plain Python, by the specification: shares nothing with the product.

It is as lenient as the columnar reader is documented to be (docs/decisions/columnar-reader.md), and says
when it was: a union's branch other than 0 and 1 is taken for 1, a Boolean other than 0 and 1 for false.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from schemas.contract import Schema


class BadBodyError(Exception):
    """Not exactly one record."""


@dataclass
class Reading:
    """One body, read."""

    record: dict[str, Any] = field(default_factory=dict)
    """The writer's fields that were asked for; instants in microseconds."""
    lenient: bool = False
    """Something was taken that the specification doesn't allow."""
    starts: dict[str, int] = field(default_factory=dict)
    """Where each field begins."""


class _Body:
    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.body) - self.at:
            raise BadBodyError("a length beyond the body")
        self.at += size
        return self.body[self.at - size : self.at]

    def long(self) -> int:
        number = 0
        for place in range(10):
            (byte,) = self.take(1)
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                break
        else:
            raise BadBodyError("a number without end")
        number &= 2**64 - 1
        return (number >> 1) ^ -(number & 1)


def read(body: bytes, writer: Schema, wanted: Collection[str]) -> Reading:
    """Raises BadBodyError. What a field that isn't wanted holds is stepped over."""
    at, found = _Body(body), Reading()
    for name, definition in writer.fields.items():
        found.starts[name] = at.at
        value = _value(at, definition["type"], found, name in wanted)
        if name in wanted:
            found.record[name] = value
    if at.at != len(body):
        raise BadBodyError("bytes are left over")
    return found


def _value(at: _Body, kind: Any, found: Reading, wanted: bool) -> Any:
    if isinstance(kind, list):
        branch = at.long()
        found.lenient |= branch not in (0, 1)
        return _value(at, kind[1], found, wanted) if branch else None
    if isinstance(kind, dict) and kind["type"] == "array":
        return _texts(at, wanted)
    if isinstance(kind, dict) and kind["type"] == "enum":
        index = at.long()
        if wanted and not 0 <= index < len(kind["symbols"]):
            raise BadBodyError("no index of the enum")
        return kind["symbols"][index] if wanted else None
    match kind["type"] if isinstance(kind, dict) else kind:
        case "boolean":
            (byte,) = at.take(1)
            found.lenient |= byte > 1
            return byte == 1
        case "int":
            number = at.long()
            if wanted and not -(2**31) <= number < 2**31:
                raise BadBodyError("too large for an int")
            return number
        case "long":
            return at.long()
        case "double":
            return struct.unpack("<d", at.take(8))[0]
        case "bytes":
            return at.take(at.long())
        case "string":
            return _text(at) if wanted else at.take(at.long())
    raise ValueError(f"{kind} is not in the contract")


def _text(at: _Body) -> str:
    try:
        return at.take(at.long()).decode()
    except UnicodeDecodeError:
        raise BadBodyError("not UTF-8") from None


def _texts(at: _Body, wanted: bool) -> list[str]:
    texts: list[str] = []
    while count := at.long():
        if count < 0:
            size = at.long()
            if not wanted:
                at.take(size)
                continue
        for _ in range(abs(count)):
            if wanted:
                texts.append(_text(at))
            else:
                at.take(at.long())
    return texts
