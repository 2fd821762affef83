"""Many values of one writer's schema as one Avro block in memory, for Polars to decode at once.

A bad body must not shift its neighbours unseen. So the headers between the bodies stay in place,
each overwritten with a random number that the block's schema declares as one more column: a row is
right only if it ends where it should, and so echoes its own number. Being random, the numbers can't
be foretold by who writes a body: 62 bits of them in the single-object format, 30 in Confluent's.

Values that still lie in their Kafka records are read where they are: there is more between them, so the
number stands right behind a body, and behind it a length that skips the rest, up to the next body.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import avro_block, wire
from schemas.resolution import FieldType

_Positions = npt.NDArray[np.int64]
_Numbers = npt.NDArray[Any]
_SKIPPED = np.dtype("<u4")
_ECHO = "_echo"
_SKIP = "_skip"
_SKIP_SIZE = 4
"""Bytes of the length of what is skipped: always as many, so that it can be written into any gap."""
_LONGEST_SKIP = (1 << 7 * _SKIP_SIZE - 1) - 1


class Block:
    """Decodes values that all begin with `header`; `types` are the fields of their bodies, in order.

    The frames have the `decoded` fields, in their plainest types (`FieldType.encoding`).
    """

    def __init__(self, header: bytes, types: Mapping[str, FieldType], decoded: Collection[str]) -> None:
        self._header = header
        self._columns = [*(name for name in types if name in decoded), _ECHO]
        confluent = wire.is_confluent(header)
        self._magic_size = 1 if confluent else 2
        self._echo = np.dtype("<u4" if confluent else "<u8")
        # Read as a float, a number without the top two bits is no NaN, which needn't come back as it was.
        self._echo_bits = 8 * self._echo.itemsize - 2
        fields = [{"name": name, "type": kind.encoding} for name, kind in types.items()]
        magic = [{"name": f"_magic{at}", "type": "boolean"} for at in range(self._magic_size)]
        echo = {"name": _ECHO, "type": "float" if confluent else "double"}
        self._prologue = avro_block.prologue([*fields, *magic, echo])
        self._prologue_of_runs = avro_block.prologue([*fields, echo, {"name": _SKIP, "type": "bytes"}])
        self._random = np.random.default_rng()

    def decode(self, values: Sequence[bytes | None]) -> pl.DataFrame | None:
        """A row for each value; None if any of them isn't right, or is null, or has another header."""
        return self._read(lambda: self._container(values))

    def decode_runs(self, octets: bytes, begins: _Positions, ends: _Positions) -> pl.DataFrame | None:
        """The same of values that lie in `octets` at these positions, in order. Between the end of one and
        the body of the next lie 12 bytes at least, as Kafka's records have it."""
        return self._read(lambda: self._container_of_runs(octets, begins, ends))

    def _read(self, contain: Callable[[], tuple[io.BytesIO, _Numbers]]) -> pl.DataFrame | None:
        try:
            container, echoes = contain()
            frame = pl.read_avro(container, columns=self._columns)
            if frame.height != len(echoes):
                return None
            if not np.array_equal(frame.drop_in_place(_ECHO).to_numpy().view(self._echo), echoes):
                return None
        except (pl.exceptions.PanicException, Exception):
            # A bad body can make Polars fail in any of its ways; the caller looks for it.
            return None
        return frame

    def _container(self, values: Sequence[bytes | None]) -> tuple[io.BytesIO, _Numbers]:
        """An Avro object container of one block, and the number that each row must echo.

        Raises TypeError for a null, ValueError for a value too short for, or with another, header.
        """
        count = len(values)
        lengths = np.fromiter(map(len, values), np.int64, count)  # type: ignore[arg-type]
        if lengths.min() < len(self._header):
            raise ValueError("a value is shorter than its header")
        # The first header goes; the others follow the bodies before them, and a last one is added.
        first, *others = values
        block = [first[len(self._header) :], *others, self._header]  # type: ignore[index]
        prologue = self._prologue + avro_block.long(count) + avro_block.long(int(lengths.sum()))
        container = io.BytesIO(b"".join([prologue, *block, avro_block.SYNC]))  # type: ignore[list-item]
        ends = np.cumsum(lengths) + (len(prologue) - len(self._header))
        echoes = self._numbers(count)
        with container.getbuffer() as octets:
            self._check_headers(octets, ends)
            _at_every_byte(octets, self._echo)[ends + self._magic_size] = echoes
        return container, echoes

    def _container_of_runs(
        self, octets: bytes, begins: _Positions, ends: _Positions
    ) -> tuple[io.BytesIO, _Numbers]:
        """Likewise. A number is written behind each body, and then how much to skip up to the next one."""
        count = len(begins)
        bodies = begins + len(self._header)
        if (ends < bodies).any():
            raise ValueError("a value is null, or shorter than its header")
        self._check_headers(memoryview(octets), begins)
        behind = bytes(_SKIP_SIZE + self._echo.itemsize)
        first, last = int(bodies[0]), int(ends[-1])
        size = last - first + len(behind)
        prologue = self._prologue_of_runs + avro_block.long(count) + avro_block.long(size)
        container = io.BytesIO(b"".join([prologue, memoryview(octets)[first:last], behind, avro_block.SYNC]))
        gaps = ends + (len(prologue) - first)
        nexts = np.append(bodies[1:], last + len(behind)) + (len(prologue) - first)
        echoes = self._numbers(count)
        with container.getbuffer() as inside:
            _at_every_byte(inside, self._echo)[gaps] = echoes
            _at_every_byte(inside, _SKIPPED)[gaps + self._echo.itemsize] = _skips(nexts - gaps - len(behind))
        return container, echoes

    def _numbers(self, count: int) -> _Numbers:
        return self._random.integers(0, 1 << self._echo_bits, count, np.uint64).astype(self._echo)

    def _check_headers(self, octets: memoryview, at: _Positions) -> None:
        """Raises ValueError unless the values that begin at these positions have the header."""
        magic = _at_every_byte(octets, np.dtype(f"<u{self._magic_size}"))
        identity = _at_every_byte(octets, self._echo)
        if (magic[at] != np.frombuffer(self._header, magic.dtype, 1)).any() or (
            identity[at + self._magic_size] != np.frombuffer(self._header, self._echo, 1, self._magic_size)
        ).any():
            raise ValueError("a value has another header")


def _skips(lengths: _Positions) -> _Numbers:
    """These lengths as Avro longs of four bytes each, in one number. Raises ValueError."""
    if lengths.min() < 0 or lengths.max() > _LONGEST_SKIP:
        raise ValueError("two values lie too near to each other, or too far apart")
    zigzag = lengths.astype(np.uint32) << np.uint32(1)
    octets = np.zeros(len(lengths), _SKIPPED)
    for byte in range(_SKIP_SIZE):
        octets |= (zigzag >> np.uint32(7 * byte) & np.uint32(0x7F)) << np.uint32(8 * byte)
    return octets | np.uint32(0x00808080)


def _at_every_byte(octets: memoryview, dtype: np.dtype[Any]) -> _Numbers:
    """The numbers that begin at each byte: overlapping, and not aligned."""
    return np.ndarray((len(octets) - dtype.itemsize + 1,), dtype, octets, strides=(1,))
