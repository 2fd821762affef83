"""What people and their tools write: statements, traces, questions. Bad ones are refused with a reason."""

import contextlib
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from api.errors import BadParameterError
from api.history.question import Aggregation, Kind, ask
from api.live.state import Include
from api.times import parse_span, parse_time
from infra.clickhouse.compression import decoder, encoder
from infra.clickhouse.errors import ClickHouseError
from infra.clickhouse.statement import parse
from streams.catalogue.groupings import GROUPINGS
from streams.windows.block import BlockKey
from streams.windows.periods import Period
from tests.fuzz.mutation import spoiled
from traffic.errors import TrafficError
from traffic.fields import FIELDS, column_map
from traffic.traces import read_trace

_SECONDS = 1.0
"""In which any of these inputs must be dealt with."""

STATEMENTS = (
    b"SELECT 1",
    b"INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'it''s')",
    b'INSERT INTO t SETTINGS a=1 FORMAT JSONEachRow\n{"a": 1}',
    b"SELECT `a b`, \"c\", 'd\\'e', $tag$ it's $tag$ FROM t -- FORMAT x\n FORMAT TSV;",
    b"WITH x AS (SELECT 1) SELECT * FROM x /* ; */ FORMAT JSON",
    b"CREATE TEMPORARY TABLE t (a Int8) # a comment\n",
)
_PIECES = (
    b"'",
    b"`",
    b'"',
    b"/*",
    b"*/",
    b"--",
    b"$",
    b"$a$",
    b"\\",
    b"(",
    b")",
    b";",
    b"\n",
    b"FORMAT ",
    b"VALUES",
    b"INSERT ",
)


class Statements:
    """The statement parser of the embedded ClickHouse: a statement, or ClickHouse's own error; soon."""

    name = "statements"

    def case(self, chance: random.Random) -> bytes:
        statement = chance.choice(STATEMENTS)
        kind = chance.random()
        if kind < 0.1:
            return b"SELECT " + b"".join(chance.sample(_PIECES, 2)) * chance.choice((100, 20_000, 60_000))
        if kind < 0.3:
            return b"".join(chance.choice((*_PIECES, *STATEMENTS)) for _ in range(chance.randrange(60)))
        return spoiled(statement, STATEMENTS, chance)

    def check(self, case: bytes) -> None:
        started = time.process_time()
        try:
            statement = parse(case)
        except ClickHouseError:
            pass
        else:
            assert statement.kind
            assert case.startswith(statement.text)
            assert statement.data_from is None or len(statement.text) <= statement.data_from <= len(case)
        assert time.process_time() - started < _SECONDS, "a statement must not take a second to be read"


class Bodies:
    """Compressed request bodies."""

    name = "bodies"

    def case(self, chance: random.Random) -> tuple[str, list[bytes]]:
        encoding = chance.choice(("lz4", "zstd", "gzip", "deflate"))
        compress = encoder(encoding)
        whole = compress.encode(chance.choice(STATEMENTS) * chance.randrange(1, 40)) + compress.finish()
        value = spoiled(whole, [whole], chance)
        cut = chance.randrange(len(value) + 1)
        return encoding, [value[:cut], value[cut:]]

    def check(self, case: tuple[str, list[bytes]]) -> None:
        encoding, pieces = case
        decoding = decoder(encoding)
        try:
            for piece in pieces:
                decoding.decode(piece)
            decoding.finish()
        except ClickHouseError:
            return


TRACES = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
    b"2023-11-16 18:15:50,396,109\n",
    b"provider,model_size,error_code,error_msg,ttft_s,end_to_end_latency_s,number_output_tokens,"
    b"number_input_tokens\nanyscale,7b,,,0.41,2.2,130,550\ntogether,70b,429,Too many,,0,1,550\n",
    b"when,service,model,in,out,ms\n1700000000,chat,gpt-4o,10,20,1500.5\n",
)
_MAPPED = ("occurred_at=when:s", "service=service", "model=model", "prompt_tokens=in", "total_us=ms:ms")
_CELLS = (
    b"9" * 400, b"1e999999999", b"-1", b"nan", b"inf", b"1e-400", b"0x10", b'"', b'""', b"\xff", b"1_000",
    b"\xd9\xa1",
    b"2023-11-16T18:15:46+99:00", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:59-23:59", b"\r", b"\0",
    b"99999999999999999999", b"9223372036854775807", b"253402300800000", b",,,,",
    b"x" * 200_000, b"1" * 5_000,
)  # fmt: skip


class Traces:
    """The trace reader: good lines become requests, the others are faults with their numbers."""

    name = "traces"

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="chatgauge-fuzz-")
        self._path = Path(self._home.name) / "trace.csv"

    def case(self, chance: random.Random) -> tuple[bytes, list[str]]:
        trace = chance.choice(TRACES)
        for _ in range(chance.randrange(4)):
            lines = trace.split(b"\n")
            at = chance.randrange(1, len(lines))
            cells = lines[at].split(b",")
            cells[chance.randrange(len(cells))] = chance.choice(_CELLS)
            lines[at] = b",".join(cells)
            trace = b"\n".join(lines)
        if chance.random() < 0.6:
            trace = spoiled(trace, TRACES, chance)
        maps = list(_MAPPED) if trace.startswith(b"when") else []
        if chance.random() < 0.2:
            maps.append("".join(chance.choice([*FIELDS, "=", ":", "ms", "in", "é", ""]) for _ in range(5)))
        return trace, maps

    def check(self, case: tuple[bytes, list[str]]) -> None:
        trace, maps = case
        self._path.write_bytes(trace)
        try:
            read = read_trace(self._path, column_map(maps) if maps else None)
        except TrafficError:
            return
        lines = sum(not line.isspace() for line in trace.split(b"\n")[1:] if line)
        assert len(read.requests) + read.faults.count == lines, "each line is a request or a fault"
        assert read.requests["occurred_at"].is_between(0, 7_258_118_400_000_000).all()


_TIMES = (
    "2026-05-04T10:00:00Z", "2026-05-04", "0001-01-01", "9999-12-31T23:59:59", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59", "1969-12-31", "2026-W01-1", "2026-05-04T24:00:00", "", "now", "20260504",
    "1970-01-01",
)  # fmt: skip
_SPANS = ("5m", "999999d", "0s", "1h30m", "", "٣m", "-5m", "5 m", "1000000d")


class Questions:
    """Parameters of the API: an answer's steps, or a refusal that names the parameter."""

    name = "questions"

    def case(self, chance: random.Random) -> dict[str, Any]:
        times = [chance.choice(_TIMES) for _ in range(2)]
        if chance.random() < 0.5:
            times[0] = spoiled(times[0].encode() or b"x", [b"T+00:00"], chance).decode(errors="replace")
        return {
            "kind": chance.choice(list(Kind)).value,
            "aggregation": chance.choice([None, *(a.value for a in Aggregation)]),
            "measure": chance.choice([None, "total", "prompt", "'; DROP", ""]),
            "grouping": chance.choice(list(GROUPINGS)),
            "key": [chance.choice(["a", "", "\0", "é" * 300]) for _ in range(chance.randrange(4))],
            "step": chance.choice(list(Period)).value,
            "zone": chance.choice(["UTC", "Europe/Rome", "America/Havana", "Pacific/Apia", "Africa/Cairo"]),
            "times": times,
            "span": chance.choice(_SPANS),
            "block_key": spoiled(b"0|live|1m|1763726400000000|total|0", [b"||1"], chance),
        }

    def check(self, case: dict[str, Any]) -> None:
        with contextlib.suppress(ValueError):
            BlockKey.decode(case["block_key"])
        with contextlib.suppress(BadParameterError):
            assert parse_span(case["span"], "window") > 0
        try:
            start, end = (parse_time(text, "start") for text in case["times"])
            question = ask(
                kind=Kind(case["kind"]),
                aggregation=case["aggregation"] and Aggregation(case["aggregation"]),
                measure=case["measure"],
                grouping=case["grouping"],
                key=case["key"],
                include=Include.ALL,
                step=Period(case["step"]),
                zone=ZoneInfo(case["zone"]),
                start=start,
                end=end,
                limit=10,
            )
        except BadParameterError:
            return
        steps = question.steps()
        assert steps[0][0] <= start < end <= steps[-1][1]
        assert all(begin < end for begin, end in steps)
