"""Reads a batch of values into columns, with no Python per record unless there is a bad one."""

from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl

from schemas import wire
from schemas.batch import OFFSET, Batch, Refusal, refuse_future
from schemas.block import Block
from schemas.contract import Schema
from schemas.errors import Reason, RefusedError, UnsupportedSchemaError
from schemas.registry import SchemaRegistry
from schemas.resolution import Resolution, frame_schema, resolve
from schemas.scan import Scan
from schemas.values import Positions, ValueList, Values
from schemas.writers import WriterSchemas

__all__ = ["Batch", "ColumnarReader", "Refusal", "refuse_future"]

_SCANNED = 1_000
"""Values up to which the part of a batch that fails is looked at one by one. A larger one is split."""
_SPLIT = 8


class ColumnarReader:
    """Reads values of one record into columns of `schema`; either wire format, any known version.

    `columns` are those wanted, in that order; the others are stepped over. What a field stepped over
    holds isn't looked at: a value with broken text there is taken, though a reader of it refuses.
    """

    def __init__(
        self, schema: Schema, columns: Sequence[str] | None = None, registry: SchemaRegistry | None = None
    ) -> None:
        self._schema = schema
        self._columns = tuple(schema.fields) if columns is None else tuple(columns)
        strangers = [name for name in self._columns if name not in schema.fields]
        if strangers or len(set(self._columns)) < len(self._columns):
            raise ValueError(
                f"columns must be fields of {schema.name}, each once; not {strangers or columns}"
            )
        self._writers = WriterSchemas(schema, registry)
        self._decoders: dict[bytes, _Decoder] = {}
        self.frame_schema = pl.Schema({**frame_schema(schema, self._columns), OFFSET: pl.Int64()})
        """Names and types of the frames that `read` gives; an enum is a `pl.Enum`."""

    def read(self, values: Sequence[bytes | None], offsets: Positions) -> Batch:
        """The rows of `values`, whose Kafka offsets are `offsets`, in the order they came.

        What can't be read is refused, not raised. Raises RegistryUnavailableError when a writer's
        schema can't be had now: read the batch again later.
        """
        return self.read_values(ValueList(values), offsets)

    def read_values(self, values: Values, offsets: Positions) -> Batch:
        """The same, wherever the values lie. May be called from several threads at once."""
        if len(values) != len(offsets):
            raise ValueError(f"{len(values)} values, but {len(offsets)} offsets")
        offsets = np.ascontiguousarray(offsets, np.int64)
        try:
            decoder = self._decoder(wire.header_of(values[0])) if len(values) else None
        except RefusedError:
            decoder = None
        frame = values.decode(decoder.block) if decoder else None
        if decoder and frame is not None:
            return decoder.shape(_batch(frame, np.arange(len(values)), offsets))
        return self._read_grouped(values, offsets)

    def _decoder(self, header: bytes) -> "_Decoder":
        decoder = self._decoders.get(header)
        if decoder is None:
            writer = self._writers.of(header)
            try:
                resolution = resolve(writer, self._schema, self._columns)
            except UnsupportedSchemaError as error:
                raise self._writers.refusal(error) from error
            decoder = self._decoders[header] = _Decoder(header, resolution)
        return decoder

    def _read_grouped(self, values: Values, offsets: Positions) -> Batch:
        grouped = values.grouped()
        failed = grouped.without
        parts = []
        for header, which in grouped.of.items():
            try:
                decoder = self._decoder(header)
            except RefusedError as error:
                failed.extend((index, error) for index in which.tolist())
                continue
            found, bad = decoder.decode_each(values, which)
            failed.extend(bad)
            parts += [decoder.shape(_batch(frame, indices, offsets)) for frame, indices in found]
        return self._join(
            parts, [Refusal(index, int(offsets[index]), why.reason, why.detail) for index, why in failed]
        )

    def _join(self, parts: Sequence[Batch], refused: Iterable[Refusal]) -> Batch:
        everything = [*refused, *(refusal for part in parts for refusal in part.refused)]
        everything.sort(key=lambda refusal: refusal.index)
        if not parts:
            return Batch(self.frame_schema.to_frame(), np.empty(0, np.int64), everything)
        indices = np.concatenate([part.indices for part in parts])
        order = np.argsort(indices)
        return Batch(pl.concat([part.frame for part in parts])[order], indices[order], everything)


class _Decoder:
    """Decodes values that carry the same header, and shapes them to the reader's schema."""

    def __init__(self, header: bytes, resolution: Resolution) -> None:
        self.block = Block(header, resolution.types, resolution.decoded)
        self._header_size = len(header)
        self._scan = Scan(resolution.types, frozenset(resolution.decoded))
        self._faults = resolution.faults
        self._shapes = [*resolution.shapes, pl.col(OFFSET)]

    def decode_each(
        self, values: Values, which: Positions
    ) -> tuple[list[tuple[pl.DataFrame, Positions]], list[tuple[int, RefusedError]]]:
        """Frames of the good ones of the values `which`, each with the positions of its rows; and the bad
        positions."""
        good: list[tuple[pl.DataFrame, Positions]] = []
        bad: list[tuple[int, RefusedError]] = []
        pending = [which]
        while pending:
            positions = pending.pop()
            frame = values.decode(self.block, positions)
            if frame is not None:
                good.append((frame, positions))
            elif len(positions) > _SCANNED:
                pending.extend(np.array_split(positions, _SPLIT))
            elif len(positions) > 1:
                passed, failed = self._scanned(values, positions)
                bad.extend(failed)
                if failed and passed:
                    pending.append(np.array(passed))
                else:
                    # Polars finds a fault that the scan doesn't: alone, the bad one shows itself.
                    pending.extend(np.array([at]) for at in passed)
            else:
                bad.append(self._verdict(values, int(positions[0])))
        return good, bad

    def _scanned(
        self, values: Values, positions: Positions
    ) -> tuple[list[int], list[tuple[int, RefusedError]]]:
        passed: list[int] = []
        failed: list[tuple[int, RefusedError]] = []
        for at in positions.tolist():
            try:
                self._scan.check((values[at] or b"")[self._header_size :])
                passed.append(at)
            except RefusedError as error:
                failed.append((at, error))
        return passed, failed

    def _verdict(self, values: Values, at: int) -> tuple[int, RefusedError]:
        _, failed = self._scanned(values, np.array([at]))
        return failed[0] if failed else (at, RefusedError(Reason.MALFORMED, "the decoder can't take it"))

    def shape(self, batch: Batch) -> Batch:
        """Decoded columns as the reader's; rows with a value out of its range are refused."""
        suspects = [fault for fault in self._faults if fault.suspicious(batch.frame)]
        if suspects:
            faulty = batch.frame.select(fault.rows.fill_null(False).alias(fault.what) for fault in suspects)
            batch = batch.refuse_where(faulty, Reason.MALFORMED)
        # One after the other: for a few rows, several threads cost more than the work.
        return Batch(batch.frame.select_seq(self._shapes), batch.indices, batch.refused)


def _batch(frame: pl.DataFrame, indices: Positions, offsets: Positions) -> Batch:
    return Batch(frame.hstack([pl.Series(OFFSET, offsets[indices])]), indices, [])
