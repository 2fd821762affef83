"""Reads a batch of values into columns, with no Python per record.

The bodies of one writer's schema are put into one Avro block in memory, for Polars to decode. A bad
body must not shift its neighbours unseen. So the headers between the bodies stay in place, each
overwritten with a random number that the wrapping schema declares as one more column: a row is
right if it ends where it should, with its own number. Else each body is looked at by itself.
"""

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import wire
from schemas.batch import OFFSET, Batch, Refusal, refuse_future
from schemas.contract import Schema
from schemas.errors import Reason, RefusedError, UnsupportedSchemaError
from schemas.registry import SchemaRegistry
from schemas.resolution import Resolution, frame_schema, resolve
from schemas.scan import Scan
from schemas.writers import WriterSchemas

__all__ = ["Batch", "ColumnarReader", "Refusal", "refuse_future"]

_ECHO = "_echo"
_SYNC = bytes(16)
_SPLIT = 8
_SCANNED = 1_000
"""Values up to which a part of a batch that fails is looked at one by one; else it is split."""
_NOTHING: npt.NDArray[np.int64] = np.empty(0, np.int64)


class ColumnarReader:
    """Reads values of one record into the columns of `schema`; either wire format, any version.

    `columns` are those wanted, in that order; the others are stepped over. Text in those isn't
    looked at, so that a value may be refused by a reader of all columns and taken by one of some.
    """

    def __init__(
        self, schema: Schema, columns: Sequence[str] | None = None, registry: SchemaRegistry | None = None
    ) -> None:
        self._schema = schema
        self._columns = tuple(schema.fields) if columns is None else tuple(columns)
        strangers = [name for name in self._columns if name not in schema.fields]
        if strangers:
            raise UnsupportedSchemaError(f"{schema.name} has no field {', '.join(strangers)}")
        self._writers = WriterSchemas(schema, registry)
        self._blocks: dict[bytes, _Block] = {}
        self.frame_schema = pl.Schema({**frame_schema(schema, self._columns), OFFSET: pl.Int64()})
        """Names and types of the frames that `read` gives."""

    def read(self, values: Sequence[bytes | None], offsets: npt.NDArray[np.int64]) -> Batch:
        """The rows of `values`, whose Kafka offsets are `offsets`, in the order they came.

        What can't be read is refused, not raised. Raises RegistryUnavailableError when a writer's
        schema can't be had now: read the batch again later.
        """
        if len(values) != len(offsets):
            raise ValueError(f"{len(values)} values, {len(offsets)} offsets")
        block = self._common_block(values)
        if block is not None:
            frame = block.decode(values)  # type: ignore[arg-type]  # a null fails the check inside
            if frame is not None:
                return self._batch([(frame, np.arange(len(values)), block)], [], offsets)
        return self._read_mixed(values, offsets)

    def _common_block(self, values: Sequence[bytes | None]) -> "_Block | None":
        try:
            return self._block(wire.header_of(values[0])) if values else None
        except RefusedError:
            return None

    def _block(self, header: bytes) -> "_Block":
        block = self._blocks.get(header)
        if block is None:
            writer = self._writers.of(header)
            try:
                resolution = resolve(writer, self._schema, self._columns)
            except UnsupportedSchemaError as error:
                raise self._writers.refusal(error) from error
            block = self._blocks[header] = _Block(header, resolution)
        return block

    def _read_mixed(self, values: Sequence[bytes | None], offsets: npt.NDArray[np.int64]) -> Batch:
        refused: list[Refusal] = []
        groups: dict[bytes, list[int]] = {}
        troubles: dict[bytes, RefusedError] = {}
        for index, value in enumerate(values):
            try:
                header = wire.header_of(value)
                if header in troubles:
                    raise troubles[header]
                if header not in groups:
                    try:
                        self._block(header)
                    except RefusedError as error:
                        troubles[header] = error
                        raise
                groups.setdefault(header, []).append(index)
            except RefusedError as error:
                refused.append(Refusal(index, int(offsets[index]), error.reason, error.detail))
        parts: list[tuple[pl.DataFrame, npt.NDArray[np.int64], _Block]] = []
        for header, members in groups.items():
            block = self._blocks[header]
            group = [value for index in members if (value := values[index]) is not None]
            refusals: list[tuple[int, RefusedError]] = []
            for frame, good in block.decode_each(group, refusals):
                parts.append((frame, np.asarray(members, np.int64)[good], block))
            refused.extend(
                Refusal(members[at], int(offsets[members[at]]), error.reason, error.detail)
                for at, error in refusals
            )
        return self._batch(parts, refused, offsets)

    def _batch(
        self,
        parts: Sequence[tuple[pl.DataFrame, npt.NDArray[np.int64], "_Block"]],
        refused: list[Refusal],
        offsets: npt.NDArray[np.int64],
    ) -> Batch:
        """One batch of frames that were decoded, each with the indices of its rows."""
        shaped: list[Batch] = []
        for frame, indices, block in parts:
            frame = frame.with_columns(pl.Series(OFFSET, offsets[indices], pl.Int64))
            shaped.append(block.shape(Batch(frame, indices, [])))
        refused = sorted(
            [*refused, *(refusal for part in shaped for refusal in part.refused)],
            key=lambda refusal: refusal.index,
        )
        if not shaped:
            return Batch(self.frame_schema.to_frame(), _NOTHING, refused)
        if len(shaped) == 1:
            return Batch(shaped[0].frame, shaped[0].indices, refused)
        indices = np.concatenate([part.indices for part in shaped])
        order = np.argsort(indices, kind="stable")
        return Batch(pl.concat([part.frame for part in shaped])[order], indices[order], refused)


class _Block:
    """Decodes values that carry the same header."""

    def __init__(self, header: bytes, resolution: Resolution) -> None:
        self._header = np.frombuffer(header, np.uint8)
        self._resolution = resolution
        confluent = wire.is_confluent(header)
        self._echo = np.dtype("<u4") if confluent else np.dtype("<u8")
        # Bit patterns which, read as a float, are never a NaN: those needn't come back unchanged.
        self._random_bits = 8 * self._echo.itemsize - 2
        self._magic = len(header) - self._echo.itemsize
        fields = [{"name": name, "type": kind.encoding} for name, kind in resolution.types.items()]
        fields += [{"name": f"_magic{at}", "type": "boolean"} for at in range(self._magic)]
        fields += [{"name": _ECHO, "type": "float" if confluent else "double"}]
        text = json.dumps({"type": "record", "name": "Block", "fields": fields}).encode()
        self._prologue = b"".join(
            [b"Obj\x01", _varint(1), _varint(11), b"avro.schema", _varint(len(text)), text, _varint(0), _SYNC]
        )
        self._scan = Scan(resolution.types, frozenset(resolution.decoded))
        self._random = np.random.default_rng()

    def decode(self, values: Sequence[bytes]) -> pl.DataFrame | None:
        """The decoded columns of all values; None if any isn't right, or has another header."""
        try:
            container, echoes = self._container(values)
            frame = pl.read_avro(io.BytesIO(container), columns=[*self._resolution.decoded, _ECHO])
            if frame.height != len(values):
                return None
            if not np.array_equal(frame[_ECHO].to_numpy().view(self._echo), echoes):
                return None
        except (pl.exceptions.PanicException, Exception):
            # A bad body makes Polars fail in any of its ways; each is then looked at by itself.
            return None
        return frame.drop(_ECHO)

    def decode_each(
        self, values: Sequence[bytes], refusals: list[tuple[int, RefusedError]]
    ) -> list[tuple[pl.DataFrame, npt.NDArray[np.int64]]]:
        """The columns of the good ones, with their positions; the others are added to `refusals`."""
        parts: list[tuple[pl.DataFrame, npt.NDArray[np.int64]]] = []
        heap = [np.arange(len(values))]
        while heap:
            positions = heap.pop()
            frame = self.decode([values[at] for at in positions.tolist()])
            if frame is not None:
                parts.append((frame, positions))
            elif len(positions) > _SCANNED:
                heap.extend(np.array_split(positions, _SPLIT))
            else:
                parts.extend(self._decode_scanned(values, positions, refusals))
        return parts

    def _decode_scanned(
        self,
        values: Sequence[bytes],
        positions: npt.NDArray[np.int64],
        refusals: list[tuple[int, RefusedError]],
    ) -> list[tuple[pl.DataFrame, npt.NDArray[np.int64]]]:
        good: list[int] = []
        for at in positions.tolist():
            try:
                self._scan.check(values[at][self._header.size :])
                good.append(at)
            except RefusedError as error:
                refusals.append((at, error))
        frame = self.decode([values[at] for at in good])
        if frame is not None:
            return [(frame, np.asarray(good, np.int64))]
        # The scan and Polars should agree. If ever they don't, Polars decides, one by one.
        parts: list[tuple[pl.DataFrame, npt.NDArray[np.int64]]] = []
        for at in good:
            frame = self.decode([values[at]])
            if frame is not None:
                parts.append((frame, np.array([at])))
            else:
                refusals.append((at, RefusedError(Reason.MALFORMED, "the columnar decoder can't take it")))
        return parts

    def shape(self, batch: Batch) -> Batch:
        """Decoded columns as the reader's; rows with a value out of its range are refused."""
        if self._resolution.faults:
            faulty = batch.frame.select(
                fault.fill_null(False).alias(what) for what, fault in self._resolution.faults
            )
            rows = faulty.select(pl.any_horizontal(pl.all())).to_series().arg_true().to_numpy()
            if len(rows):
                found = faulty[rows].iter_rows(named=True)
                details = [next(what for what, is_so in row.items() if is_so) for row in found]
                batch = batch.refuse(rows.astype(np.int64), Reason.MALFORMED, details)
        frame = batch.frame.select(*self._resolution.shapes, OFFSET)
        return Batch(frame, batch.indices, batch.refused)

    def _container(self, values: Sequence[bytes]) -> tuple[bytearray, npt.NDArray[Any]]:
        """An Avro object container of all values, and the number that each row must echo.

        Raises ValueError if a value is too short for, or has, another header.
        """
        count = len(values)
        size = self._header.size
        lengths = np.fromiter(map(len, values), np.int64, count)
        if lengths.min() < size:
            raise ValueError("shorter than its header")
        # The first header goes; the others follow the bodies before them, and a last one is added.
        block_size = int(lengths.sum())
        prologue = self._prologue + _varint(count) + _varint(block_size)
        parts = [prologue, values[0][size:], *values[1:], self._header.tobytes(), _SYNC]
        container = bytearray().join(parts)
        octets = np.frombuffer(container, np.uint8)
        ends = np.cumsum(lengths) + (len(prologue) - size)
        headers = ends[:, None] + np.arange(size)
        if not (octets[headers] == self._header).all():
            raise ValueError("another header")
        echoes = self._random.integers(0, 1 << self._random_bits, count, np.uint64).astype(self._echo)
        octets[headers[:, self._magic :]] = echoes.view(np.uint8).reshape(count, -1)
        return container, echoes


def _varint(number: int) -> bytes:
    """A non-negative Avro long."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
