"""Window blocks: an envelope, a zstd frame and an Arrow stream, any of which may lie."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import zstandard

from api.live.state import Include, LiveState
from clients.clickhouse.sketches import dd_state
from schemas.errors import SchemaError
from schemas.time import MINUTE
from streams.catalogue.groupings import GROUPINGS, Grouping
from streams.windows import sketch
from streams.windows.block import Block, BlockKey, pack_rows, read_block, row_schema, write_block
from streams.windows.merge import merge
from streams.windows.state import restore
from tests.fuzz.mutation import spoiled

_NOON = 1_763_726_400_000_000
_ODD_TYPES = (pa.string(), pa.large_string(), pa.float64(), pa.uint64(), pa.bool_(), pa.list_(pa.string()))
_CLAIMS = (2**20, 2**31, 2**40, 2**62)


class WindowBlocks:
    """A block is read whole, or refused; what reads it afterwards never fails on it."""

    name = "blocks"

    def __init__(self) -> None:
        self._packer = zstandard.ZstdCompressor(level=1)
        self._nothing = self._packer.compress(bytes(300_000_000))
        self._twice = self._packer.compress(
            _compressed(pa.table({"requests": np.zeros(40_000_000, np.int64)}))
        )

    def case(self, chance: random.Random) -> tuple[str, bytes]:
        """The grouping that the Kafka key names, and a value."""
        grouping = chance.choice(list(GROUPINGS.values()))
        table = _table(grouping, chance)
        kind = chance.random()
        if kind < 0.15:
            table = _misshapen(table, chance)
        packed = pack_rows(table)
        if 0.15 <= kind < 0.7:
            stream = zstandard.ZstdDecompressor().decompress(packed)
            packed = self._packer.compress(spoiled(stream, [stream], chance, range(0, len(stream), 8)))
        elif 0.7 <= kind < 0.8:
            packed = spoiled(packed, [packed], chance)
        elif 0.8 <= kind < 0.84:
            packed = b"\x28\xb5\x2f\xfd\xe0" + chance.choice(_CLAIMS).to_bytes(8, "little") + packed[6:]
        elif 0.84 <= kind < 0.85:
            packed = chance.choice((self._nothing, self._twice))
        value = write_block(_block(grouping, packed, chance))
        if kind > 0.92:
            value = spoiled(value, [value], chance)
        return grouping.name, value

    def check(self, case: tuple[str, bytes]) -> None:
        name, value = case
        key = BlockKey(0, False, "1m", _NOON, name, 0)
        state = LiveState()
        state.apply(key.encode(), value, _NOON)
        window = state.window(MINUTE, name, _NOON + MINUTE, include=Include.LIVE)
        state.query(window, name, _NOON + MINUTE, include=Include.LIVE)

        try:
            block = read_block(value)
            rows = block.rows
        except SchemaError:
            return
        grouping = GROUPINGS[block.key.grouping]
        assert rows.schema.equals(row_schema(grouping))
        assert rows.nbytes < 2**28
        merged = merge([rows, rows], grouping)
        if rows.num_rows and not _overflows(rows):
            assert merged["requests"].sum() == 2 * sum(rows["requests"].to_pylist())
        for measure in grouping.latencies:
            for keys, counts in zip(
                rows[f"{measure}_keys"].to_pylist(), rows[f"{measure}_counts"].to_pylist(), strict=True
            ):
                if keys:
                    dd_state(keys, counts)
                    assert sketch.quantile(keys, counts, 0.5) > 0
        groups = set(zip(*(rows[name].to_pylist() for name in grouping.keys), strict=True))
        if rows.num_rows and len(groups or {()}) == rows.num_rows:
            restored = restore(block, grouping).rows()
            assert all(restored[name].to_pylist() == rows[name].to_pylist() for name in grouping.sums)


def _compressed(table: pa.Table) -> bytes:
    """With the buffers compressed in themselves."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write(table)
    return bytes(sink.getvalue().to_pybytes())


def _overflows(rows: pa.Table) -> bool:
    return any(abs(number) > 2**40 for number in rows["requests"].to_pylist())


def _block(grouping: Grouping, packed: bytes, chance: random.Random) -> Block:
    offset = chance.choice((-1, 0, 7, 2**40, 2**63 - 1))
    return Block(
        key=BlockKey(chance.choice((0, 3, -1)), chance.random() < 0.2, "1m", _NOON, grouping.name, 0),
        pane_end=_NOON + MINUTE,
        since=0,
        offset=offset,
        watermark=chance.choice((0, _NOON, _NOON + MINUTE)),
        revision=chance.choice((0, 1, 2**31 - 1)),
        closed=chance.random() < 0.5,
        packed_rows=packed,
    )


def _table(grouping: Grouping, chance: random.Random) -> pa.Table:
    count = chance.choice((0, 1, 2, 9, 40)) if grouping.keys else chance.choice((0, 1))
    columns: dict[str, Any] = {name: [f"{name}-{n}" for n in range(count)] for name in grouping.keys}
    columns |= {name: [chance.randrange(10**6) for _ in range(count)] for name in grouping.sums}
    for name in grouping.latencies:
        sketches = [
            np.unique(sketch.keys_of(np.array([chance.randrange(10**9) for _ in range(chance.randrange(5))])))
            for _ in range(count)
        ]
        columns[f"{name}_count"] = [len(keys) for keys in sketches]
        columns[f"{name}_sum"] = [chance.randrange(10**12) for _ in range(count)]
        columns |= {
            f"{name}_{end}": [1 if len(keys) else None for keys in sketches] for end in ("min", "max")
        }
        columns[f"{name}_keys"] = [keys.tolist() for keys in sketches]
        columns[f"{name}_counts"] = [[1] * len(keys) for keys in sketches]
    return pa.table(columns, schema=row_schema(grouping))


def _misshapen(table: pa.Table, chance: random.Random) -> pa.Table:
    """With a column that is missing, double, of another type, or of nulls; or sketches that are none."""
    place = chance.randrange(table.num_columns)
    field = table.schema.field(place)
    match chance.randrange(5):
        case 0:
            return table.remove_column(place)
        case 1:
            return table.append_column(field, table.column(place))
        case 2:
            return table.set_column(place, field.name, pa.nulls(table.num_rows, field.type))
        case 3:
            odd = chance.choice(_ODD_TYPES)
            return table.set_column(place, field.name, pa.nulls(table.num_rows, odd))
    lists = [n for n, field in enumerate(table.schema) if pa.types.is_list(field.type)]
    if not lists:
        return table
    place = chance.choice(lists)
    numbers = [
        chance.choice(([], [5, 3], [-1], [2**31 - 1], [1, 1], [0, 1, 2], None)) for _ in range(table.num_rows)
    ]
    return table.set_column(place, table.schema.field(place), pa.array(numbers, table.schema.types[place]))
