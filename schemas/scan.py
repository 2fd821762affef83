"""Whether a body is exactly one record: what the columnar reader asks of each when a batch fails.

It judges as `polars.read_avro` does, field by field, so that whether a value is taken never depends
on the values beside it. Nothing is allocated for a length that the body doesn't have.

A strict scan also refuses what no writer of Avro writes, and Polars takes: a Boolean other than 0
and 1, a branch of a union that there isn't, an index that its enum doesn't have, an int of more than
32 bits. (The columnar reader finds the last two in its columns.)
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import replace

from schemas.errors import Reason, RefusedError
from schemas.resolution import FieldType

_Step = Callable[[bytes, int], int]
_LONGEST_VARINT = 10
_MASK = 2**64 - 1


class Scan:
    """Steps through bodies of one schema; text is checked in the `decoded` fields only."""

    def __init__(self, types: Mapping[str, FieldType], decoded: Set[str], *, strict: bool = False) -> None:
        step = _strict_step if strict else _step
        self._steps = [(name, step(kind, name in decoded)) for name, kind in types.items()]

    def check(self, body: bytes) -> None:
        """Raises RefusedError: malformed, or left_over_bytes."""
        position = 0
        name = ""
        try:
            for name, step in self._steps:  # noqa: B007
                position = step(body, position)
        except IndexError:
            raise RefusedError(Reason.MALFORMED, f"the body ends inside {name}") from None
        except ValueError as error:
            raise RefusedError(Reason.MALFORMED, f"{name}, at byte {position}: {error}") from None
        if position != len(body):
            raise RefusedError(
                Reason.LEFT_OVER_BYTES, f"the record ends at byte {position}, the body at {len(body)}"
            )


def _step(kind: FieldType, decoded: bool) -> _Step:
    step = _PLAIN.get(kind.kind, _skip_long)
    if kind.kind == "string" and decoded:
        step = _text
    if kind.kind == "array":
        step = _texts if decoded else _skip_texts
    return _optional(step) if kind.nullable else step


def _strict_step(kind: FieldType, decoded: bool) -> _Step:
    plain = _step(replace(kind, nullable=False), decoded)
    if kind.kind == "boolean":
        plain = _within(0, 2, "is neither true nor false", _byte)
    elif kind.kind == "enum":
        plain = _within(0, len(kind.symbols), "is no index of the enum", _long)
    elif kind.kind == "int":
        plain = _within(-(2**31), 2**31, "doesn't fit an int", _long)
    return _optional(plain, _within(0, 2, "is no branch of the union", _long)) if kind.nullable else plain


def _within(least: int, end: int, otherwise: str, read: Callable[[bytes, int], tuple[int, int]]) -> _Step:
    def within(body: bytes, position: int) -> int:
        number, position = read(body, position)
        if not least <= number < end:
            raise ValueError(f"{number} {otherwise}")
        return position

    return within


def _byte(body: bytes, position: int) -> tuple[int, int]:
    return body[position], position + 1


def _optional(step: _Step, checked: _Step | None = None) -> _Step:
    def optional(body: bytes, position: int) -> int:
        if checked is not None:
            checked(body, position)
        branch, position = _long(body, position)
        return step(body, position) if branch else position

    return optional


def _long(body: bytes, position: int) -> tuple[int, int]:
    byte = body[position]
    position += 1
    number = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        if shift >= 7 * _LONGEST_VARINT:
            raise ValueError("a number is longer than 64 bits")
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
    number &= _MASK
    return (number >> 1) ^ -(number & 1), position


def _skip_long(body: bytes, position: int) -> int:
    return _long(body, position)[1]


def _fixed(size: int) -> _Step:
    def fixed(body: bytes, position: int) -> int:
        if position + size > len(body):
            raise IndexError
        return position + size

    return fixed


def _bytes(body: bytes, position: int) -> int:
    length, position = _long(body, position)
    if length < 0:
        raise ValueError(f"a length of {length}")
    if position + length > len(body):
        raise IndexError
    return position + length


def _text(body: bytes, position: int) -> int:
    length, start = _long(body, position)
    if length < 0:
        raise ValueError(f"a length of {length}")
    end = start + length
    if end > len(body):
        raise IndexError
    try:
        body[start:end].decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    return end


def _texts(body: bytes, position: int) -> int:
    while True:
        count, position = _long(body, position)
        if count == 0:
            return position
        if count < 0:
            count = -count
            position = _skip_long(body, position)
        # Each item takes a byte at least: this ends with the body, whatever the count says.
        for _ in range(count):
            position = _text(body, position)


def _skip_texts(body: bytes, position: int) -> int:
    while True:
        count, position = _long(body, position)
        if count == 0:
            return position
        if count < 0:
            position = _bytes(body, position)
        else:
            for _ in range(count):
                position = _bytes(body, position)


_PLAIN: dict[str, _Step] = {
    "boolean": _fixed(1),
    "float": _fixed(4),
    "double": _fixed(8),
    "string": _bytes,
    "bytes": _bytes,
}
