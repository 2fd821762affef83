"""Traces: both known files against what the csv module says, mapped columns, and lines that are broken."""

import csv
from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import contract
from traffic.errors import ColumnMapError, EmptyTraceError, TrafficError, UnknownTraceError
from traffic.fields import FIELDS, column_map
from traffic.formats import LLMPERF_CONCURRENCY, LLMPERF_START
from traffic.traces import Fault, Trace, read_trace

AZURE_HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
GOOD_LINE = b"2023-11-16 18:15:46.6805900,374,44"


def written(directory: Path, *lines: str | bytes) -> Path:
    path = directory / "trace.csv"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines))
    return path


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def azure_file(shared_data: Path) -> Path:
    return shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"


@pytest.fixture(scope="module")
def llmperf_file(shared_data: Path) -> Path:
    return shared_data / "llmperf" / "llmperf_requests.csv"


@pytest.fixture(scope="module")
def llmperf(llmperf_file: Path) -> Trace:
    return read_trace(llmperf_file)


def test_every_minute_of_the_azure_trace_has_what_the_file_says(azure_file: Path) -> None:
    trace = read_trace(azure_file)
    expected: dict[str, Counter[str]] = {}
    for line in lines_of(azure_file):
        minute = expected.setdefault(line["TIMESTAMP"][:16], Counter())
        minute.update(requests=1, prompt=int(line["ContextTokens"]), completion=int(line["GeneratedTokens"]))
    minutes = trace.requests.group_by(
        pl.col("occurred_at").cast(pl.Datetime("us")).dt.strftime("%Y-%m-%d %H:%M").alias("minute")
    ).agg(pl.len(), pl.col("prompt_tokens").sum(), pl.col("completion_tokens").sum())
    assert trace.format == "Azure LLM inference trace"
    assert trace.faults.count == 0
    assert trace.requests.height == 19_366
    assert {
        minute: Counter(requests=n, prompt=p, completion=c) for minute, n, p, c in minutes.iter_rows()
    } == (expected)


def test_times_of_the_azure_trace_are_kept_to_the_microsecond(azure_file: Path) -> None:
    last = lines_of(azure_file)[-1]["TIMESTAMP"]
    kept = read_trace(azure_file).requests["occurred_at"][-1]
    at = datetime.fromtimestamp(kept // 1_000_000, UTC).replace(microsecond=kept % 1_000_000)
    assert f"{at:%Y-%m-%d %H:%M:%S.%f}" == last[:-1]


def test_the_llmperf_file_counts_as_its_lines_do(llmperf_file: Path, llmperf: Trace) -> None:
    named = {"": None, "429": "rate_limited", "-100": "output_too_short", "-1": "unknown"}
    expected = Counter(
        (line["provider"], f"llama-2-{line['model_size']}-chat", named[line["error_code"]])
        for line in lines_of(llmperf_file)
    )
    counted = llmperf.requests.select("provider", "model", "error_type").iter_rows()
    assert Counter(counted) == expected
    assert llmperf.faults.count == 0


def test_the_llmperf_latencies_are_those_of_the_file(llmperf_file: Path, llmperf: Trace) -> None:
    answered = [line for line in lines_of(llmperf_file) if float(line["end_to_end_latency_s"]) > 0]
    for field, column in (("total_us", "end_to_end_latency_s"), ("first_token_us", "ttft_s")):
        expected = sorted(round(Fraction(line[column]) * 1_000_000) for line in answered)
        assert llmperf.requests[field].drop_nulls().sort().to_list() == expected
    for field, column in (
        ("prompt_tokens", "number_input_tokens"),
        ("completion_tokens", "number_output_tokens"),
    ):
        assert llmperf.requests[field].sum() == sum(int(line[column]) for line in answered)


def test_refused_llmperf_requests_have_neither_latency_nor_tokens(llmperf: Trace) -> None:
    refused = llmperf.requests.filter(pl.col("error_type").is_in(["rate_limited", "unknown"]))
    assert refused.height == 393
    for column in ("total_us", "first_token_us", "model_us", "prompt_tokens", "completion_tokens"):
        assert refused[column].null_count() == refused.height


def test_llmperf_requests_run_five_at_a_time_from_the_day_of_the_benchmark(llmperf: Trace) -> None:
    start_us = int(LLMPERF_START.timestamp()) * 1_000_000
    timed = llmperf.requests.with_columns(_took=pl.col("total_us").fill_null(1_000_000)).with_columns(
        _begin=pl.col("occurred_at") - pl.col("_took")
    )
    assert timed["_begin"].min() == start_us
    for _, one in timed.group_by("provider", "model"):
        begins, ends = one["_begin"].to_list(), one["occurred_at"].to_list()
        assert begins.count(start_us) == LLMPERF_CONCURRENCY
        at_once = [sum(b <= moment < e for b, e in zip(begins, ends, strict=True)) for moment in begins]
        assert max(at_once) == LLMPERF_CONCURRENCY


def test_a_broken_line_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        AZURE_HEADER,
        "2023-11-16 18:15:46.6805900,374,44",
        "yesterday,1,2",
        "2023-11-16 18:15:47.0000000,many,2",
        "2023-11-16 18:15:47.0000000,-3,2",
        "2023-11-16 18:15:47.0000000,3",
        '"2023-11-16 18:15:48,3,4',
        "",
        b"2023-11-16 18:15:47.0000000,\xff\xfe,2",
        "2023-11-16 18:15:47.0000000,,2",
        "2023-11-16 18:15:47.0000000,9999999999999,2",
        "2023-11-16 18:15:50.9951690,396,109",
    )
    trace = read_trace(path)
    assert trace.requests["_line"].to_list() == [2, 12]
    assert sorted(trace.faults.first, key=lambda fault: fault.line) == [
        Fault(3, "TIMESTAMP: 'yesterday' is not a time between 1970 and 2200 (iso)"),
        Fault(4, "ContextTokens: 'many' is not a whole number (count)"),
        Fault(5, "ContextTokens: '-3' is not a whole number (count)"),
        Fault(6, "has 2 columns, the header 3"),
        Fault(7, "is not CSV: unexpected end of data"),
        Fault(9, "is not UTF-8"),
        Fault(10, "ContextTokens is empty"),
        Fault(11, "prompt_tokens is over 1000000000000"),
    ]
    assert trace.faults.count == 8


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.just(b"2023-11-16 18:15:46.6805900,374,44")), max_size=20)
)
def test_whatever_lines_there_are_each_is_read_or_reported(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    path = written(tmp_path_factory.mktemp("trace"), AZURE_HEADER, GOOD_LINE, *lines)
    trace = read_trace(path)
    blank = sum(not line.strip() for line in lines)
    assert trace.requests.height + trace.faults.count + blank == 1 + len(lines)
    good = sum(line == GOOD_LINE for line in lines)
    assert trace.requests.height >= 1 + good


def test_other_files_are_read_by_mapped_columns_in_the_order_of_time(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "\ufeffwhen,who,llm,in,out,took,usd,bad,stream",
        "1700000002.5,anna,gpt-4o,10,20,1.5,0.00123,,yes",
        "1700000001,,gpt-4o-mini,7,n/a,250,1e-6,timeout,no",
    )
    columns = column_map(
        [
            "occurred_at=when:s",
            "user_id=who",
            "model=llm",
            "prompt_tokens=in",
            "completion_tokens=out",
            "total_us=took:ms",
            "cost_nano_usd=usd:usd",
            "error_type=bad",
            "streamed=stream",
        ]
    )
    first, second = read_trace(path, columns, {"service": "shop"}).requests.to_dicts()
    assert first == {
        "_line": 3,
        "occurred_at": 1_700_000_001_000_000,
        "service": "shop",
        "provider": "unknown",
        "model": "gpt-4o-mini",
        "user_id": None,
        "error_type": "timeout",
        "streamed": False,
        "prompt_tokens": 7,
        "completion_tokens": None,
        "cost_nano_usd": 1_000,
        "total_us": 250_000,
    }
    assert (second["total_us"], second["cost_nano_usd"], second["streamed"]) == (1_500, 1_230_000, True)
    assert second["occurred_at"] == 1_700_000_002_500_000


def test_every_field_that_a_file_can_have_is_mapped(tmp_path: Path) -> None:
    reported = {
        "conversation_id": "c-1",
        "region": "eu-central-1",
        "operation": "chat",
        "experiment": "greeting",
        "variant": "short",
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "cache_write_tokens": 60,
        "cache_write_1h_tokens": 20,
        "prompt_audio_tokens": 10,
        "completion_tokens": 50,
        "completion_audio_tokens": 5,
        "output_chunks": 12,
        "retries": 1,
        "last_token_us": 1_500_000,
    }
    cells = [str(value) for value in reported.values()][:-1]
    path = written(
        tmp_path,
        ",".join(["when", *reported]),
        ",".join(["1700000001", *cells, "1500"]),
        ",".join(["1700000002", *cells[:7], "101", *cells[8:], "1500"]),
    )
    columns = column_map(
        [
            "occurred_at=when:s",
            *(f"{name}={name}" for name in [*reported][:-1]),
            "last_token_us=last_token_us:ms",
        ]
    )
    trace = read_trace(path, columns)
    (row,) = trace.requests.to_dicts()
    assert {name: row[name] for name in reported} == reported
    assert trace.faults.first == [Fault(3, "cache_write_tokens is larger than prompt_tokens")]
    own = {"event_id", "request_id", "trace_id", "phase", "imported", "attributes"}
    assert FIELDS.keys() == contract.schema("RequestEvent").fields.keys() - own


@pytest.mark.parametrize(
    ("text", "unit", "microseconds"),
    [
        ("2023-11-16T18:15:46.123456789+02:00", "iso", 1_700_151_346_123_456),
        ("2023-11-16 18:15:46", "iso", 1_700_158_546_000_000),
        ("1700158546123", "ms", 1_700_158_546_123_000),
        ("1700158546123456789", "ns", 1_700_158_546_123_457),
    ],
)
def test_times_are_read_in_their_unit(text: str, unit: str, microseconds: int) -> None:
    assert FIELDS["occurred_at"].units[unit](text) == microseconds


def test_a_column_s_name_may_contain_a_colon() -> None:
    columns = column_map(["occurred_at=log:time", "total_us=span:ms:ms"])
    assert (columns["occurred_at"].name, columns["occurred_at"].unit) == ("log:time", None)
    assert (columns["total_us"].name, columns["total_us"].unit) == ("span:ms", "ms")


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["prompt_tokens=in"], "which column holds the time"),
        (["occurred_at"], "write field=column"),
        (["occurred_at="], "write field=column"),
        (["occurred_at=a", "prompt=in"], "there is no field prompt; there are occurred_at, "),
        (["occurred_at=a", "occurred_at=b"], "mapped twice"),
    ],
)
def test_a_map_that_cannot_be_used_says_why(pairs: list[str], says: str) -> None:
    with pytest.raises(ColumnMapError, match=says):
        column_map(pairs)


def test_a_mapped_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ColumnMapError, match="has no column when; it has a, b"):
        read_trace(written(tmp_path, "a,b", "1,2"), column_map(["occurred_at=when"]))


@pytest.mark.parametrize("header", ["a,b,c", "", '"a', b"\xff\xfe\x00"])
def test_a_header_that_is_not_known_says_what_is(tmp_path: Path, header: str | bytes) -> None:
    with pytest.raises(UnknownTraceError) as error:
        read_trace(written(tmp_path, header, "1,2,3"))
    if isinstance(header, str) and not header.startswith('"'):
        assert AZURE_HEADER.replace(",", ", ") in str(error.value)
        assert "--map occurred_at=timestamp" in str(error.value)
    else:
        assert "this takes CSV files" in str(error.value)


def test_a_file_without_one_good_line_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        EmptyTraceError, match="no line that can be read, and 1 that can't; the first: line 2 has"
    ):
        read_trace(written(tmp_path, AZURE_HEADER, "1,2"))


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="cannot be read: No such file"):
        read_trace(tmp_path / "absent.csv")
