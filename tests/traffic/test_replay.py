"""Replayed events: the same file gives the same ones, at its own times or moved to end now."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from schemas.codec import Codec
from schemas.contract import schema
from traffic.messages import Encoder
from traffic.publish import partition_of
from traffic.replay import events, messages
from traffic.traces import Trace, read_trace


def trace(directory: Path, lines: int = 9_000, name: str = "trace.csv", tokens: int = 5) -> Trace:
    start = datetime(2023, 11, 16, 18, tzinfo=UTC)
    path = directory / name
    rows = (f"{start + timedelta(milliseconds=100 * line)},{line + 1},{tokens}\n" for line in range(lines))
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows))
    return read_trace(path)


def test_events_are_finished_imported_and_at_the_file_s_times(tmp_path: Path) -> None:
    whole = pl.concat(events(trace(tmp_path)))
    assert whole.height == 9_000
    assert whole["occurred_at"][0] == datetime(2023, 11, 16, 18, tzinfo=UTC)
    assert whole["occurred_at"][-1] == datetime(2023, 11, 16, 18, 14, 59, 900_000, tzinfo=UTC)
    assert whole["imported"].all()
    assert set(whole["phase"]) == {"finished"}
    assert whole["event_id"].n_unique() == whole["request_id"].n_unique() == 9_000


def test_the_same_content_has_the_same_ids_whatever_the_file_is_called(tmp_path: Path) -> None:
    first, again, other = (
        [one for frame in events(of) for one in frame["event_id"]]
        for of in (trace(tmp_path), trace(tmp_path, name="copy.csv"), trace(tmp_path, tokens=6))
    )
    assert first == again
    assert not set(first) & set(other)


def test_a_shifted_trace_ends_at_the_given_moment_and_is_live(tmp_path: Path) -> None:
    now = datetime(2026, 7, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    recorded = trace(tmp_path)
    whole = pl.concat(events(recorded, shift_to=now))
    assert whole["occurred_at"][-1] == now
    assert not whole["imported"].any()
    apart = whole["occurred_at"].diff().drop_nulls().unique().to_list()
    assert apart == [timedelta(milliseconds=100)]
    assert whole["event_id"].to_list() == pl.concat(events(recorded))["event_id"].to_list()


@pytest.mark.parametrize("partitions", [4, 12])
def test_lines_without_users_are_spread_over_all_partitions(tmp_path: Path, partitions: int) -> None:
    sent = [part for block in messages(trace(tmp_path), Encoder()) for part in block]
    keys = [key for part in sent for key in part.keys]
    used = [partition_of(key, partitions) for key in keys]
    shares = [used.count(partition) / len(used) for partition in range(partitions)]
    assert min(shares) > 0.2 / partitions
    assert len(set(keys)) == 100


def test_messages_are_read_by_the_codec(tmp_path: Path) -> None:
    codec = Codec(schema("RequestEvent"))
    ((part,),) = messages(trace(tmp_path, lines=3), Encoder(), users=1)
    first, *_, last = (codec.decode(value or b"") for value in part.values)
    assert (first["prompt_tokens"], last["prompt_tokens"]) == (1, 3)
    assert (first["provider"], first["model"], first["service"]) == ("azure", "unknown", "azure-llm-trace")
    assert (first["user_id"], first["space_id"]) == ("replay-user-001", "replay-space-1")
    assert first["total_us"] is None
    assert part.kinds == ["request"] * 3
    assert part.keys == [b"replay-user-001"] * 3
