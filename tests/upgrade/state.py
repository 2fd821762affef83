"""A data directory of an earlier version, as it was left: `states/<version>.tar.xz`, and what it answered."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.end_to_end.stack import Stack

STATES: Final = Path(__file__).with_name("states")

# What was written must not expire before it is compared, in whatever year that is.
SETTINGS: Final = {
    "CHATGAUGE_KAFKA_PARTITIONS": "2",
    "CHATGAUGE_WINDOWS_TIMEZONE": "Europe/Berlin",
    "CHATGAUGE_DELIVERY_ALLOW": '["127.0.0.1"]',
    "CHATGAUGE_ACCESS_ADMIN_KEY": "key-of-the-frozen-states",
    # Nor is it counted again meanwhile: repeats that the stream could not know would go.
    "CHATGAUGE_SINK_REBUILD_QUIET": "P9000D",
    "CHATGAUGE_SINK_REBUILD_DELAY": "P9000D",
    **{
        f"CHATGAUGE_RETENTION_{name}_DAYS": "10000"
        for name in (
            *("EVENTS", "SPANS", "SAMPLES", "DEAD_LETTERS", "WINDOWS", "LIVE_WINDOWS", "ALERTS"),
            *("DECISIONS", "DELIVERIES"),
        )
    },
}

_VIEWS: Final = (
    *("requests_total_per_minute", "requests_per_minute", "requests_by_model", "requests_by_space"),
    *("requests_by_workflow", "requests_by_user", "errors_by_type", "tokens_by_space", "tokens_by_user"),
    *("cost_by_day", "latency_total_per_minute", "latency_per_minute", "latency_by_model"),
    *("latency_by_space", "latency_by_workflow", "requests", "raw_requests_per_minute"),
    "raw_latency_per_minute",
)
_OF_ALERTS: Final = (
    "SELECT * FROM alert_transitions WHERE judged_at < {end:DateTime64(6, 'UTC')} ORDER BY ALL",
    "SELECT * FROM decision_log WHERE decided_at < {end:DateTime64(6, 'UTC')} ORDER BY ALL",
    "SELECT notification_id, endpoint_id, type, created_at, alerts, body FROM notification_log "
    "WHERE created_at < {end:DateTime64(6, 'UTC')} ORDER BY ALL",
    "SELECT * FROM delivery_log WHERE started_at < {end:DateTime64(6, 'UTC')} ORDER BY ALL",
)
"""What goes on by the clock, up to when the state was left."""
_TABLES: Final = ("spans", "samples", "dead_letters")
_GROUPINGS: Final = ("total", "service", "model", "space", "workflow", "error", "user")

Answers = Mapping[str, Any]


def figures(stack: Stack, begin: datetime, end: datetime) -> dict[str, Any]:
    """What the views and the API say of the time from `begin` to `end`: one answer for each question."""
    answers: dict[str, Any] = {}
    for view in _VIEWS:
        answers[f"view {view}"] = _rows(stack, f"SELECT * FROM {view} ORDER BY ALL")
    for table in _TABLES:
        (answers[f"rows of {table}"],) = stack.query(f"SELECT count() FROM {table} FINAL")[0]
    span = {"start": begin.isoformat(), "end": end.isoformat()}
    for grouping in _GROUPINGS:
        for kind, aggregation in (
            ("requests", "sum"),
            ("latency", "p95"),
            ("tokens", "sum"),
            ("cost", "sum"),
        ):
            if (grouping, kind) == ("user", "latency"):
                continue
            asked = {**span, "grouping": grouping, "type": kind, "aggregation": aggregation, "step": "1h"}
            answers[f"{kind} {aggregation} by {grouping}"] = _answer(stack, "/api/metrics/historical", asked)
    return answers


def definitions(stack: Stack) -> dict[str, Any]:
    """What people have set up."""
    return {path: _answer(stack, path, {}) for path in ("/api/rules", "/api/endpoints", "/api/silences")}


def alerting(stack: Stack, end: datetime) -> dict[str, Any]:
    """What was raised, decided and delivered before `end`."""
    return {question: _rows(stack, question, end=end) for question in _OF_ALERTS}


def _rows(stack: Stack, question: str, **parameters: Any) -> list[dict[str, Any]]:
    return [
        {name: _plain(value) for name, value in row.items()}
        for row in stack.named_rows(question, **parameters)
    ]


def _answer(stack: Stack, path: str, asked: Mapping[str, str]) -> Any:
    answer = stack.api.get(path, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def within_bounds(answers: Answers) -> dict[str, Any]:
    """Rows whose percentiles lie between their minimum and maximum: state 0001's may lie 1 % outside."""
    return {
        question: [_clamped(row) for row in rows] if isinstance(rows, list) else rows
        for question, rows in answers.items()
    }


def _clamped(row: Mapping[str, Any]) -> dict[str, Any]:
    if "min" not in row:
        return dict(row)
    clamped = {name: min(max(row[name], row["min"]), row["max"]) for name in ("p50", "p95", "p99")}
    return {**row, **clamped}


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Where `after` says something else. It may say more: fields that `before` doesn't have."""
    match before, after:
        case dict(), dict():
            return [
                line
                for name, value in before.items()
                if name != "age_ms"  # it tells when it was asked
                for line in differences(value, after.get(name, "nothing"), f"{where}.{name}")
            ]
        case list(), list() if len(before) == len(after):
            return [
                line
                for number, pair in enumerate(zip(before, after, strict=True))
                for line in differences(*pair, f"{where}[{number}]")
            ]
        case _:
            return [] if before == after else [f"{where}: {str(before)[:200]} is now {str(after)[:200]}"]


def pack(directory: Path, answers: Answers, name: str) -> Path:
    """Keep a data directory that nothing holds, and what it answered."""
    STATES.mkdir(exist_ok=True)
    file = STATES / f"{name}.tar.xz"
    (directory / "answers.json").write_text(json.dumps(answers, ensure_ascii=False))
    with tarfile.open(file, "w:xz", preset=6) as archive:
        archive.add(directory, ".", filter=_kept)
    return file


def _kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if member.name.startswith(("./log", "./.lock")):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def unpack(file: Path, directory: Path) -> Answers:
    """The inverse of `pack`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file) as archive:
        archive.extractall(directory, filter="data")
    answers: Answers = json.loads((directory / "answers.json").read_text())
    return answers


def names() -> Sequence[str]:
    """The states that are kept, from the earliest."""
    return sorted(file.name.removesuffix(".tar.xz") for file in STATES.glob("*.tar.xz"))
