"""The commands `simulate` and `replay`, as a person uses them, against a real Kafka."""

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from typer.testing import CliRunner, Result

from cli.main import app
from infra.ports import free_port
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import RefusedError

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "traffic.md"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def topics(fresh_kafka: str, create_topics: Callable[..., None]) -> str:
    create_topics(fresh_kafka, partitions=3)
    return fresh_kafka


@pytest.fixture
def run(topics: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in an empty directory against the Kafka of this module."""
    monkeypatch.setenv("CHATGAUGE_KAFKA_BOOTSTRAP", topics)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def ends(bootstrap: str) -> dict[TopicPartition, int]:
    async def read() -> dict[TopicPartition, int]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            offsets: dict[TopicPartition, int] = await consumer.end_offsets(
                [TopicPartition("chat.requests", partition) for partition in range(3)]
            )
            return offsets

    return asyncio.run(read())


def arrived(bootstrap: str, since: dict[TopicPartition, int]) -> list[dict[str, Any] | RefusedError]:
    """What came to chat.requests after the offsets `since`; for what can't be read, why."""
    codec = Codec(schema("RequestEvent"))

    def decoded(value: bytes) -> dict[str, Any] | RefusedError:
        try:
            return codec.decode(value)
        except RefusedError as error:
            return error

    async def read() -> list[bytes]:
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
            consumer.assign(list(since))
            for partition, offset in since.items():
                consumer.seek(partition, offset)
            left = sum((await consumer.end_offsets(list(since))).values()) - sum(since.values())
            values: list[bytes] = []
            async with asyncio.timeout(30):
                while len(values) < left:
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        values.extend(record.value for record in records)
            return values

    return [decoded(value) for value in asyncio.run(read())]


def finished(events: list[dict[str, Any] | RefusedError]) -> list[dict[str, Any]]:
    return [event for event in events if isinstance(event, dict) and event["phase"] == "finished"]


def counts(output: str) -> dict[str, int]:
    """The kinds in the summary."""
    line = next(line for line in output.splitlines() if re.match(r"sent [\d,]+ messages in", line))
    found = re.findall(r"([a-z][a-z:\- ]+) ([\d,]+)(?=[,;]|$)", line.partition("/s): ")[2])
    return {kind.strip(): int(number.replace(",", "")) for kind, number in found}


def test_simulate_sends_what_it_counts(run: Run, topics: str) -> None:
    before = ends(topics)
    arguments = (
        "simulate --count 20000 --rate 100 --speed max --seed 3 --late 1% --too-late 0.1% --corrupt 10"
    )

    result = run(*arguments.split())

    assert result.exit_code == 0, result.output
    said = counts(result.output)
    events = arrived(topics, before)
    requests = finished(events)
    assert len(requests) == said["request"] + said["late"] + said["too late"] == 20_000
    assert said["late"] == pytest.approx(200, rel=0.3)
    assert said["too late"] == pytest.approx(20, rel=0.9)
    refused = Counter(event.reason.value for event in events if isinstance(event, RefusedError))
    assert refused == dict.fromkeys(
        ("malformed", "unknown_format", "unknown_schema", "left_over_bytes", "empty"), 2
    )
    assert len(events) == 20_000 + said["started"] + 10
    newest = max(event["occurred_at"] for event in requests)
    assert timedelta() <= datetime.now(UTC) - newest < timedelta(minutes=1)


def test_simulate_keeps_to_the_clock(run: Run, topics: str) -> None:
    before = ends(topics)
    began = datetime.now(UTC)
    result = run("simulate", "--rate", 400, "--duration", 2, "--started", 0)
    took = (datetime.now(UTC) - began).total_seconds()
    assert result.exit_code == 0, result.output
    assert 2 <= took < 30
    requests = finished(arrived(topics, before))
    assert len(requests) == 800
    assert min(event["occurred_at"] for event in requests) >= began
    assert max(event["occurred_at"] for event in requests) < began + timedelta(seconds=took)


def test_the_same_seed_sends_the_same_ids(run: Run, topics: str) -> None:
    sent = []
    for _ in range(2):
        before = ends(topics)
        run("simulate", "--count", 300, "--speed", "max", "--seed", 11)
        sent.append({event["event_id"] for event in finished(arrived(topics, before))})
    assert sent[0] == sent[1]
    assert len(sent[0]) == 300


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
oops,1,2
2023-11-16 18:16:50.9951690,396,109
"""


def test_replay_sends_the_good_lines_and_names_the_bad_ones(run: Run, topics: str, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(AZURE)
    before = ends(topics)
    result = run("replay", "trace.csv")
    assert result.exit_code == 0, result.output
    assert "line 3: TIMESTAMP: 'oops' is not a time" in result.output
    assert "request 2; 1 lines could not be read" in result.output
    events = sorted(finished(arrived(topics, before)), key=lambda event: event["occurred_at"])
    assert [(event["prompt_tokens"], event["completion_tokens"]) for event in events] == [
        (374, 44),
        (396, 109),
    ]
    assert events[0]["occurred_at"] == datetime(2023, 11, 16, 18, 15, 46, 680_590, UTC)
    assert all(event["imported"] for event in events)


def test_replay_at_a_speed_takes_its_time(run: Run, topics: str, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(AZURE)
    before = ends(topics)
    began = datetime.now(UTC)
    result = run("replay", "trace.csv", "--shift-to", "now", "--speed", "64.3146", "--model", "gpt-4o")
    assert result.exit_code == 0, result.output
    assert 1 <= (datetime.now(UTC) - began).total_seconds() < 6
    first, last = sorted(finished(arrived(topics, before)), key=lambda event: event["occurred_at"])
    assert last["occurred_at"] - first["occurred_at"] == timedelta(seconds=64, microseconds=314_579)
    assert began <= last["occurred_at"] <= datetime.now(UTC)
    assert (last["imported"], last["model"]) == (False, "gpt-4o")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("replay absent.csv", 1, "absent.csv cannot be read: No such file or directory"),
        ("replay other.csv", 2, "the header of other.csv is not known: a, b"),
        ("replay other.csv --map occurred_at=c", 2, "has no column c; it has a, b"),
        ("replay other.csv --map occurred_at=a", 1, "has no line that can be read"),
        ("replay other.csv --speed -1", 2, "write max, or how many times faster"),
        ("replay other.csv --shift-to yesterday", 2, "`now` only"),
        ("simulate --speed max", 2, "needs an end"),
        ("simulate --count 5 --duration 5", 2, "not both"),
        ("simulate --count 5 --late 101%", 2, "between 0 and 100"),
        ("simulate --count 5 --start 2999-01-01", 2, "lie in the future"),
    ],
)
def test_what_makes_no_sense_ends_with_a_reason(
    run: Run, tmp_path: Path, arguments: str, code: int, says: str
) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1x,2\n")
    result = run(*shlex.split(arguments))
    assert result.exit_code == code, result.output
    assert says in " ".join(result.output.replace("│", " ").split())


def test_without_kafka_it_is_one_clear_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATGAUGE_KAFKA_BOOTSTRAP", f"127.0.0.1:{free_port()}")
    result = run("simulate", "--count", 5, "--speed", "max")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: Kafka does not answer at 127.0.0.1:")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_run_ends_cleanly_with_its_count(topics: str, number: signal.Signals) -> None:
    before = ends(topics)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "simulate", "--rate", "300"],
        cwd=ROOT,
        env={**os.environ, "CHATGAUGE_KAFKA_BOOTSTRAP": topics},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while sum(ends(topics).values()) < sum(before.values()) + 100:
            assert process.poll() is None
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert output.rstrip().endswith("; interrupted")
    said = counts(output)
    events = arrived(topics, before)
    assert len(finished(events)) == said["request"] > 0
    assert len(events) == said["request"] + said.get("started", 0)


def examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("example", examples())
def test_the_guide_s_examples_work(run: Run, tmp_path: Path, example: str) -> None:
    chatgauge, command, *arguments = shlex.split(example)
    assert chatgauge == "chatgauge"
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text(AZURE)
    (tmp_path / "llmperf_requests.csv").write_text(
        "provider,model_size,seq,error_code,error_msg,inter_token_latency_s,ttft_s,end_to_end_latency_s,"
        "request_output_throughput_token_per_s,number_total_tokens,number_output_tokens,number_input_tokens\n"
        "anyscale,13b,0,,,0.009,0.55,1.52,34.0,701,151,550\n"
        "lepton,13b,10,429,,0.0,0,0,0,551,1,550\n"
    )
    (tmp_path / "requests.csv").write_text(
        "created,llm,vendor,input,output,latency\n1700000000000,gpt-4o,openai,10,20,1.25\n"
    )
    endless = command == "simulate" and not {"--duration", "--count"} & set(arguments)
    result = run(command, *arguments, *(["--count", 20] if endless else []))
    assert result.exit_code == 0, result.output
    assert sum(counts(result.output).values()) > 0


@pytest.mark.parametrize("command", ["simulate", "replay"])
def test_the_guide_names_every_option(command: str) -> None:
    guide = GUIDE.read_text("utf-8")
    named = {name for name in re.findall(r"--[a-z-]+", run_help(command)) if name != "--help"}
    assert {name for name in named if f"{name}`" not in guide and f"{name} " not in guide} == set()


def run_help(command: str) -> str:
    return CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
