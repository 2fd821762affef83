"""What becomes of a batch of event records: rows, and dead letters with coordinates."""

from datetime import UTC, datetime

import numpy as np
import pytest

from schemas.topics import REQUESTS, SAMPLES, SPANS
from sinks import events, samples, spans
from sinks.records import RecordWriter, runs
from sinks.writer import Assignment, Fetch, Insert, Step
from streams.counting.pricing import PriceList
from tests.sinks.making import HELD, NOON, Record, encoded, fetch, fetch_of, request, sample, span

DAY_MS = 86_400_000


def writer() -> RecordWriter:
    return events.writer(lambda: NOON, PriceList())


def take(*fetches: Fetch) -> Step:
    return writer().take(fetches, frozenset({HELD}), 0.0)


def only(step: Step) -> Insert:
    (insert,) = step.inserts
    return insert


def test_a_record_is_a_row_with_its_coordinates() -> None:
    insert = only(take(fetch([encoded(request(7, user_id="u", error_type="timeout"))], first=42)))
    (row,) = insert.rows.to_pylist()
    assert insert.table == "events"
    assert (row["_partition"], row["_offset"]) == (0, 42)
    assert row["arrived_at"] == datetime.fromtimestamp(NOON / 1e6, UTC)
    assert row["occurred_at"] == datetime.fromtimestamp((NOON + 7) / 1e6, UTC)
    assert (row["request_id"], row["user_id"], row["error_type"]) == ("request-7", "u", "timeout")
    assert (row["phase"], row["imported"], row["attributes"]) == ("finished", False, [])


def test_requests_are_priced_and_what_has_no_price_is_null() -> None:
    known = encoded(request(prompt_tokens=1_000_000, completion_tokens=0))
    charged = encoded(request(cost_nano_usd=5))
    unknown = encoded(request(provider="nobody", model="nothing"))
    rows = only(take(fetch([known, charged, unknown]))).rows
    priced = rows["priced_nano_usd"].to_pylist()
    assert priced[0] > 0
    assert priced[1:] == [5, None]
    assert rows["cost_nano_usd"].to_pylist() == [None, 5, None]


def test_the_same_records_make_the_same_token_and_others_another() -> None:
    values = [encoded(request(n)) for n in range(3)]
    token = only(take(fetch(values, first=5))).token
    assert token == only(take(fetch(values, first=5))).token == "chat.requests/0/5-7"
    assert token != only(take(fetch(values[:2], first=5))).token
    other = take(fetch(values, first=5, assignment=Assignment(1, 1)))
    assert token != only(other).token


def test_bad_records_become_dead_letters_and_their_neighbours_stay() -> None:
    good = [encoded(request(n)) for n in range(4)]
    future = encoded(request(occurred_at=NOON + 301_000_000))
    values = [good[0], b"\xc3\x01no such schema", good[1], good[2] + b"!", future, None, good[3]]
    step = take(fetch(values, first=100))
    assert only(step).rows["_offset"].to_pylist() == [100, 102, 106]
    assert only(step).rows["request_id"].to_pylist() == ["request-0", "request-1", "request-3"]
    assert [(letter["offset"], letter["reason"]) for letter in step.letters] == [
        (101, "unknown_schema"),
        (103, "left_over_bytes"),
        (104, "in_the_future"),
        (105, "empty"),
    ]
    letter = step.letters[0]
    assert (letter["topic"], letter["partition"], letter["value"]) == (
        "chat.requests",
        0,
        b"\xc3\x01no such schema",
    )
    assert (letter["arrived_at"], letter["refused_at"], letter["refused_by"]) == (NOON, NOON, "sink")


def test_records_refused_to_the_last_still_move_the_position() -> None:
    step = take(fetch([b"?", b"?"], first=8))
    assert step.inserts == []
    assert step.positions == {HELD: 10}


def test_an_insert_never_spans_two_days_of_arrival() -> None:
    records = [
        Record(n, encoded(request(n)), timestamp=NOON // 1_000 + day * DAY_MS)
        for n, day in enumerate([0, 0, 1, 0, 2, 2])
    ]
    step = take(fetch_of(records))
    assert [insert.rows["_offset"].to_pylist() for insert in step.inserts] == [[0, 1], [2], [3], [4, 5]]
    assert len({insert.token for insert in step.inserts}) == 4


def test_partitions_are_written_one_by_one() -> None:
    other = Assignment(1, 1)
    step = take(fetch([encoded(request())]), fetch([encoded(request())], first=9, assignment=other))
    assert [(insert.assignment, insert.rows.num_rows) for insert in step.inserts] == [(HELD, 1), (other, 1)]
    assert step.positions == {HELD: 1, other: 10}


@pytest.mark.parametrize(
    ("made", "value", "columns"),
    [
        (spans.writer(lambda: NOON), encoded(span(), "SpanEvent"), {"kind": "tool", "parent_id": None}),
        (samples.writer(lambda: NOON), encoded(sample(3), "Sample"), {"value": 3.0, "state": None}),
    ],
    ids=[SPANS.name, SAMPLES.name],
)
def test_spans_and_samples_likewise(made: RecordWriter, value: bytes, columns: dict[str, object]) -> None:
    step = made.take([fetch([value, encoded(request())])], frozenset({HELD}), 0.0)
    (row,) = only(step).rows.to_pylist()
    assert columns.items() <= row.items()
    assert [letter["topic"] for letter in step.letters] != [REQUESTS.name]
    assert len(step.letters) == 1


def test_runs_of_equal_neighbours() -> None:
    assert runs(np.array([3, 3, 5, 3])) == [(0, 2), (2, 3), (3, 4)]
    assert runs(np.array([7])) == [(0, 1)]
