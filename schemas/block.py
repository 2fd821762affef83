"""Many values of one writer's schema as one Avro block in memory, for Polars to decode at once.

A bad body must not shift its neighbours unseen. So the headers between the bodies stay in place,
each overwritten with a random number that the block's schema declares as one more column: a row is
right only if it ends where it should, and so echoes its own number. Being random, the numbers can't
be foretold by who writes a body: 62 bits of them in the single-object format, 30 in Confluent's.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import wire
from schemas.resolution import FieldType

_ECHO = "_echo"
_SYNC = bytes(16)


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
        fields += [{"name": f"_magic{at}", "type": "boolean"} for at in range(self._magic_size)]
        fields += [{"name": _ECHO, "type": "float" if confluent else "double"}]
        schema = json.dumps({"type": "record", "name": "Block", "fields": fields}).encode()
        self._prologue = b"".join(
            [b"Obj\x01", _long(1), _long(11), b"avro.schema", _long(len(schema)), schema, _long(0), _SYNC]
        )
        self._random = np.random.default_rng()

    def decode(self, values: Sequence[bytes | None]) -> pl.DataFrame | None:
        """A row for each value; None if any of them isn't right, or is null, or has another header."""
        try:
            container, echoes = self._container(values)
            frame = pl.read_avro(container, columns=self._columns)
            if frame.height != len(values):
                return None
            if not np.array_equal(frame.drop_in_place(_ECHO).to_numpy().view(self._echo), echoes):
                return None
        except (pl.exceptions.PanicException, Exception):
            # A bad body can make Polars fail in any of its ways; the caller looks for it.
            return None
        return frame

    def _container(self, values: Sequence[bytes | None]) -> tuple[io.BytesIO, npt.NDArray[np.uint64]]:
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
        prologue = self._prologue + _long(count) + _long(int(lengths.sum()))
        container = io.BytesIO(b"".join([prologue, *block, _SYNC]))  # type: ignore[list-item]
        ends = np.cumsum(lengths) + (len(prologue) - len(self._header))
        echoes = self._random.integers(0, 1 << self._echo_bits, count, np.uint64).astype(self._echo)
        with container.getbuffer() as octets:
            self._exchange(octets, ends, echoes)
        return container, echoes

    def _exchange(
        self, octets: memoryview, at: npt.NDArray[np.int64], echoes: npt.NDArray[np.uint64]
    ) -> None:
        """Checks the headers at these positions, and writes a number into each."""
        magic = _at_every_byte(octets, np.dtype(f"<u{self._magic_size}"))
        if (magic[at] != np.frombuffer(self._header, magic.dtype, 1)).any():
            raise ValueError("a value has another header")
        identity = _at_every_byte(octets, self._echo)
        at = at + self._magic_size
        if (identity[at] != np.frombuffer(self._header, self._echo, 1, self._magic_size)).any():
            raise ValueError("a value has another header")
        identity[at] = echoes


def _at_every_byte(octets: memoryview, dtype: np.dtype[np.uint64]) -> npt.NDArray[np.uint64]:
    """The numbers that begin at each byte: overlapping, and not aligned."""
    return np.ndarray((len(octets) - dtype.itemsize + 1,), dtype, octets, strides=(1,))


def _long(number: int) -> bytes:
    """A non-negative Avro long."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
