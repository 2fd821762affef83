"""Pending, firing, resolved: what verdicts make of an alert."""

from streams.alerts.lifecycle import OpenAlert, Verdict, advance, alert_id

VIOLATES, HOLDS, UNKNOWN = Verdict.VIOLATES, Verdict.HOLDS, Verdict.UNKNOWN


def transitions(verdicts: list[Verdict], consecutive: int = 1) -> list[tuple[int, str, int]]:
    """After which verdict, the new state, and the number of the transition."""
    alert: OpenAlert | None = None
    found = []
    for at, verdict in enumerate(verdicts, 1):
        after, changed = advance(alert, verdict, "rule", ("a",), at, consecutive)
        if changed is not None and after is not None:
            found.append((at, changed, after.transition))
        alert = None if changed == "resolved" else after
    return found


def test_one_violation_fires_and_the_first_pane_that_holds_resolves() -> None:
    assert transitions([HOLDS, VIOLATES, VIOLATES, HOLDS, HOLDS]) == [(2, "firing", 1), (4, "resolved", 2)]


def test_several_in_a_row_are_pending_before_they_fire() -> None:
    found = transitions([VIOLATES, VIOLATES, VIOLATES, HOLDS], consecutive=3)
    assert found == [(1, "pending", 1), (3, "firing", 2), (4, "resolved", 3)]


def test_a_pane_that_holds_ends_a_pending_alert_and_counting_begins_anew() -> None:
    found = transitions([VIOLATES, HOLDS, VIOLATES, VIOLATES], consecutive=2)
    assert found == [(1, "pending", 1), (2, "resolved", 2), (3, "pending", 1), (4, "firing", 2)]


def test_where_nothing_is_known_nothing_changes() -> None:
    assert transitions([UNKNOWN, VIOLATES, UNKNOWN, VIOLATES, UNKNOWN], consecutive=2) == [
        (2, "pending", 1),
        (4, "firing", 2),
    ]


def test_an_id_is_of_the_rule_the_group_and_the_start() -> None:
    ids = {
        alert_id(rule, group, start)
        for rule in ("r", "s")
        for group in ((), ("a",), ("a", "b"), ("ab",))
        for start in (1, 2)
    }
    assert len(ids) == 16
    assert alert_id("r", ("a",), 1) == alert_id("r", ("a",), 1)
    assert all(len(each) == 23 and each.startswith("al_") for each in ids)
