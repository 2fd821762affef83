"""The drill's reckoning notices what it is there for."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.streams.deliveries.drill.receiver import Request
from tests.streams.deliveries.drill.reconciling import Report, reconcile

AT = 1_800_000_000.0
KILL = AT + 100


def _request(at: float, taken: bool = True, **changed: Any) -> Request:
    given = {"endpoint_id": "e", "webhook_id": "n", "taken": taken, "signed": True, "body": b"{}"}
    return Request(at, **(given | changed))


def _attempt(number: int, at: float, outcome: str) -> dict[str, Any]:
    return {
        "attempt_id": f"n/0/{number}",
        "notification_id": "n",
        "attempt": number,
        "outcome": outcome,
        "started_at": datetime.fromtimestamp(at, UTC),
        "took_us": 10_000,
    }


def _report(requests: list[Request], log: list[dict[str, Any]]) -> Report:
    return reconcile({"n": ("e", b"{}")}, requests, log, [KILL], reach_s=5, most_under_way=1)


def test_what_failed_and_then_was_delivered_is_fine() -> None:
    report = _report(
        [_request(AT, taken=False), _request(AT + 5)],
        [_attempt(1, AT, "failed"), _attempt(2, AT + 5, "delivered")],
    )
    assert report.fine
    assert report.lines()[-1] == "delivered 1, lost 0, doubled 0"


def test_a_request_that_a_kill_cut_off_is_explained_and_counted_as_doubled() -> None:
    report = _report([_request(KILL - 0.1), _request(KILL + 9)], [_attempt(1, KILL + 9, "delivered")])
    assert (report.faults, report.cut_off, report.doubled) == ([], 1, {"n": 2})
    assert report.fine
    assert (report.may_double, replace(report, kills=0).fine) == (20, False)


def test_an_answer_that_was_not_recorded_in_time_is_a_fault() -> None:
    report = _report([_request(KILL - 0.6), _request(KILL + 9)], [_attempt(1, KILL + 9, "delivered")])
    assert [fault.partition(" that ")[2] for fault in report.faults] == ["no attempt and no kill explains"]


def test_of_many_fewer_than_one_in_two_hundred_may_be_doubled() -> None:
    report = replace(_report([], []), wanted=10_000, lost=[], faults=[], kills=10)
    doubled = {f"n{number}": 2 for number in range(51)}
    assert not replace(report, doubled=doubled).fine
    doubled.popitem()
    assert replace(report, doubled=doubled).fine


@pytest.mark.parametrize(
    ("requests", "log", "fault"),
    [
        ([], [], "ended with []"),
        ([_request(AT)], [], "no attempt and no kill explains"),
        ([], [_attempt(1, AT, "delivered")], "no receiver has taken it"),
        ([_request(AT)], [_attempt(2, AT, "delivered")], "has attempts [2]"),
        ([_request(AT)], [_attempt(1, AT, "failed")], "ended with ['failed']"),
        ([_request(AT)], [_attempt(1, AT, "delivered"), _attempt(1, AT + 1, "delivered")], "differently"),
        ([_request(AT, signed=False)], [_attempt(1, AT, "delivered")], "not signed"),
        ([_request(AT, webhook_id="m")], [_attempt(1, AT, "delivered")], "not what was sent"),
        ([_request(AT, body=b"x")], [_attempt(1, AT, "delivered")], "not what was sent"),
    ],
)
def test_a_contradiction_is_a_fault(requests: list[Request], log: list[dict[str, Any]], fault: str) -> None:
    report = _report(requests, log)
    assert not report.fine
    assert any(fault in each for each in report.faults), report.faults


def test_more_requests_than_can_be_under_way_are_not_explained_by_a_kill() -> None:
    requests = [_request(KILL - 0.2), _request(KILL - 0.1), _request(KILL + 9)]
    report = _report(requests, [_attempt(1, KILL + 9, "delivered")])
    assert report.faults == ["kill 0 cut off 2 requests, of 1 at most"]


def test_what_nobody_took_is_lost() -> None:
    report = _report([_request(AT, taken=False)], [_attempt(1, AT, "exhausted")])
    assert report.lost == ["n"]
    assert report.lines()[-1] == "delivered 0, lost 1, doubled 0"
