"""What the contract of a kind promises, held against each kind that there is."""

from typing import Any

import polars as pl
import pytest

from schemas.time import MINUTE, Micros
from streams.alerts.judge import Judge
from streams.alerts.kinds import KINDS, Rule
from streams.alerts.lifecycle import OpenAlert
from streams.alerts.limits import Judging, Limits
from streams.alerts.pane_series import ALWAYS
from streams.alerts.rule import parse_rule
from streams.alerts.state import RuleState
from streams.alerts.units import UNITS
from streams.alerts.window import JudgedPane, Window
from tests.streams.alerts.closed_panes import minute, rows
from tests.streams.alerts.rules import EVERY_KIND, Written

every_kind = pytest.mark.parametrize("written", EVERY_KIND, ids=lambda written: written["kind"])
BUSY = {"requests": 500, "errors": 400, "prompt_tokens": 10**9, "total_us": [60_000_000] * 3}


def pane(rule: Rule, end: Micros, groups: dict[Any, Any], parts: int) -> JudgedPane:
    """The last pane of a window with these rows, of which `parts` of 2 source partitions have closed."""
    frame = pl.DataFrame(rows(rule.grouping, groups))
    window = Window(end - rule.window, end, frame, parts, 2, whole=True)
    return JudgedPane(window, ALWAYS, lambda: frame)


class Busy:
    """Panes with far too much in them."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def ending_at(self, end: Micros) -> JudgedPane:
        return pane(self._rule, end, {tuple("x" for _ in self._rule.keys): BUSY}, 2)

    def ends(self, after: Micros, upto: Micros) -> list[Micros]:
        return list(range(after + MINUTE, upto + 1, MINUTE))


def begun(written: Written) -> tuple[Rule, RuleState]:
    rule = parse_rule(written)
    return rule, RuleState(rule.id, 1, (rule.kind, rule.grouping, rule.pane), minute(0))


def at(now: Micros, **more: Any) -> Judging:
    return Judging(0, now, Limits(), **more)


def test_there_is_a_rule_of_every_kind() -> None:
    assert {parse_rule(written).kind_name() for written in EVERY_KIND} == KINDS.keys()


@every_kind
def test_its_unit_is_one_that_alerts_can_state(written: Written) -> None:
    rule, _ = begun(written)
    assert UNITS[rule.threshold_unit.symbol] is rule.threshold_unit


@every_kind
def test_nothing_is_raised_for_want_of_data_in_a_window_that_is_not_complete(written: Written) -> None:
    rule, state = begun(written)
    for n in range(1, 4):
        rule.judge(state, pane(rule, minute(n), {}, 1), at(minute(n)))
        state.judged = minute(n)
    assert state.outbox.alerts == []


@every_kind
def test_what_comes_too_late_fires_nothing_and_is_decided_upon(written: Written) -> None:
    rule, state = begun(written)
    rule.pass_over(state, Busy(rule), minute(3), at(minute(99), too_late=True))
    assert state.outbox.alerts == []
    assert {decision["what"] for decision in state.outbox.decisions} == {"too-late"}


@every_kind
def test_what_it_needs_is_the_same_until_it_is_answered(written: Written) -> None:
    rule, state = begun(written)
    rule.judge(state, pane(rule, minute(1), {}, 2), at(minute(1)))
    assert rule.needs(state, minute(1)) == rule.needs(state, minute(1))


@every_kind
def test_a_state_that_is_written_goes_on_where_it_was(written: Written) -> None:
    rule, state = begun(written)
    rule.judge(state, Busy(rule).ending_at(minute(1)), at(minute(1)))
    before = state.pack()
    rule.revise(state, at(minute(1)))
    assert state.pack() == before, "the same version ends nothing"


def test_alerts_of_a_kind_that_there_is_no_more_are_resolved() -> None:
    record = {
        "alert_id": "al_1", "transition": 1, "revision": 0, "state": "firing", "rule_id": "r",
        "rule_revision": 1, "rule_name": "Rule", "changed_at": minute(1), "grouping": "total", "group": [],
        "window_end": minute(1), "value": None, "threshold": None, "parts": 1, "parts_expected": 1,
    }  # fmt: skip
    state = RuleState("r", 1, ("of-old", "total", "1m"), minute(1))
    state.open[()] = OpenAlert((), "al_1", "firing", 1, minute(1), 1, record)
    judge = Judge(0, 1, [])
    judge.restore({b"r": state.pack()})
    [alert] = judge.tick(minute(2)).alerts
    assert (alert["alert_id"], alert["state"], alert["transition"]) == ("al_1", "resolved", 2)
