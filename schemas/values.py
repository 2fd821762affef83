"""Values to be read as columns: a list of them, or where they lie in the records of a fetch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import wire
from schemas.block import Block
from schemas.errors import RefusedError
from schemas.records import cut

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grouped:
    """Values by their header."""

    of: dict[bytes, Positions] = field(default_factory=dict)
    """Which values have the header, in order."""
    without: list[tuple[int, RefusedError]] = field(default_factory=list)
    """Those that have none, and why."""


class Values(Protocol):
    """A value is bytes or null."""

    def __len__(self) -> int: ...
    def __getitem__(self, at: int, /) -> bytes | None: ...

    def decode(self, block: Block, which: Positions | None = None) -> pl.DataFrame | None:
        """All of them, or those at these positions; see `Block.decode`."""
        ...

    def grouped(self) -> Grouped: ...


class ValueList:
    """Values, as they were taken out of their records."""

    def __init__(self, values: Sequence[bytes | None]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, at: int) -> bytes | None:
        return self._values[at]

    def decode(self, block: Block, which: Positions | None = None) -> pl.DataFrame | None:
        values = self._values
        return block.decode(values if which is None else [values[at] for at in which.tolist()])

    def grouped(self) -> Grouped:
        found: dict[bytes, list[int]] = {}
        without: list[tuple[int, RefusedError]] = []
        for at, value in enumerate(self._values):
            try:
                found.setdefault(wire.header_of(value), []).append(at)
            except RefusedError as error:
                without.append((at, error))
        return Grouped({header: np.array(which, np.int64) for header, which in found.items()}, without)


class ValueRuns:
    """Values in the unpacked records `octets`, in order; a null ends before it begins.

    Behind the last one there must be 10 bytes more.
    """

    def __init__(self, octets: bytes, begins: Positions, ends: Positions) -> None:
        self._octets = octets
        self._begins = begins
        self._ends = ends

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, at: int) -> bytes | None:
        return cut(self._octets, int(self._begins[at]), int(self._ends[at]))

    def decode(self, block: Block, which: Positions | None = None) -> pl.DataFrame | None:
        if which is None:
            return block.decode_runs(self._octets, self._begins, self._ends)
        return block.decode_runs(self._octets, self._begins[which], self._ends[which])

    def grouped(self) -> Grouped:
        sizes = self._ends - self._begins
        marker = self._numbers("<u2", self._begins)
        single = (marker == _marker(wire.SINGLE_OBJECT)) & (sizes >= wire.SINGLE_OBJECT_SIZE)
        confluent = ((marker & 0xFF) == _marker(wire.CONFLUENT)) & (sizes >= wire.CONFLUENT_SIZE)
        groups = Grouped()
        for these, identity, magic in ((single, "<u8", 2), (confluent, "<u4", 1)):
            which = np.flatnonzero(these)
            numbers = self._numbers(identity, self._begins[which] + magic)
            for which_alike in _alike(which, numbers):
                header = wire.header_of(self[int(which_alike[0])])
                groups.of[header] = which_alike
        for at in np.flatnonzero(~single & ~confluent).tolist():
            try:
                wire.header_of(self[at])
            except RefusedError as error:
                groups.without.append((at, error))
        return groups

    def _numbers(self, kind: str, at: Positions) -> npt.NDArray[Any]:
        dtype = np.dtype(kind)
        everywhere = np.ndarray((len(self._octets) - dtype.itemsize + 1,), dtype, self._octets, strides=(1,))
        return everywhere[at]


def _marker(magic: bytes) -> int:
    return int.from_bytes(magic, "little")


def _alike(which: Positions, numbers: npt.NDArray[Any]) -> list[Positions]:
    """`which`, cut into those of equal numbers; each in its order."""
    if len(which) == 0:
        return []
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return np.split(which[order], cuts)
