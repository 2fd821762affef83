"""One rule held against one pane: the verdict for each group, and what becomes of its alerts.

All but budgets, which count instead of comparing (`budget`). What changes is the rule's state, with the
outbox in it. Groups are handled in columns; one by one only those that violate, or have an alert.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl

from schemas.time import SECOND, Micros
from streams.alerts.evaluation import Evaluated, Window, evaluate, selected
from streams.alerts.lifecycle import FIRING, PENDING, RESOLVED, Group, OpenAlert, Record, Verdict, advance
from streams.alerts.lifecycle import alert_id as id_of
from streams.alerts.limits import Judging, Limits
from streams.alerts.records import (
    Evidence,
    alert_record,
    decision_record,
    number,
    stated,
    summary,
    threshold_of,
    transition_decision,
)
from streams.alerts.rule import AbsenceRule, ComparingRule, Rule, WatchdogRule
from streams.alerts.state import RuleState, Seen

_WITHOUT_DATA: Final = {"keep": Verdict.UNKNOWN, "ok": Verdict.HOLDS, "alert": Verdict.VIOLATES}


def judge(
    state: RuleState, rule: ComparingRule, window: Window, reference: pl.DataFrame | None, at: Judging
) -> None:
    """Hold a rule with a threshold against a window; its last pane is the one that is judged."""
    evaluated = evaluate(rule, window, reference)
    asked = bool(len(evaluated) or not rule.keys or state.open or state.seen)
    _see(state, rule, evaluated, window.end, at.limits)
    verdicts = dict(_verdicts(state, rule, evaluated, window, at.limits))
    excess = _keep_within(verdicts, state, at.limits)
    if asked:
        what, reason = _verdict_in_words(evaluated, window)
        if excess:
            reason += f"; {excess} of them make no alert, as a rule has at most {at.limits.most_groups}"
        value = number(evaluated.values[0]) if len(evaluated) == 1 else None
        counted = len(evaluated), int(evaluated.violates.sum())
        say(state, rule, window, what, reason, counted, at, value=value)
    _pass(
        state,
        rule,
        window,
        verdicts,
        lambda group: evidence_of(evaluated, evaluated.row_of.get(group), window),
        at,
    )


def judge_absence(
    state: RuleState, rule: AbsenceRule, window: Window, latest: pl.DataFrame, at: Judging
) -> None:
    """Look for groups that had data and have none in the window; `latest` are the rows of its last pane."""
    rows = selected(rule, window.rows)
    requests = dict(zip(_groups(rows, rule.keys), rows["requests"].to_list(), strict=True))
    for group in _groups(selected(rule, latest), rule.keys):
        _saw(state, group, Seen(window.end, requests[group]), at.limits)
    missed = {
        group
        for group, seen in state.seen.items()
        if group not in requests and seen.requests >= rule.minimum_requests
    }
    if requests or missed:
        reason = f"{len(missed)} of {len(requests) + len(missed)} groups had no data"
        what = "evaluated" if window.complete else "incomplete"
        say(state, rule, window, what, reason, (len(requests) + len(missed), len(missed)), at)
    known = window.complete
    verdicts = dict.fromkeys(requests, Verdict.HOLDS if known else Verdict.UNKNOWN)
    for group in missed:
        given_up = _given_up(state, group, window.end, at.limits)
        verdicts[group] = Verdict.HOLDS if given_up else Verdict.VIOLATES if known else Verdict.UNKNOWN

    def evidence(group: Group) -> Evidence:
        count = requests.get(group, 0)
        return replace(bare(window), value=float(count) if count else None, requests=count)

    _pass(state, rule, window, verdicts, evidence, at)


def judge_watchdog(state: RuleState, rule: WatchdogRule, window: Window, at: Judging) -> None:
    """All is well: told at first, and again after each of the rule's intervals, as a further transition."""
    if not window.complete:
        return
    alert = state.open.get(())
    if alert is None:
        alert = OpenAlert((), id_of(rule.id, (), window.end), "firing", 1, window.end, 1)
    elif window.end - int(alert.record["changed_at"]) >= rule.repeat_interval:
        alert = replace(alert, transition=alert.transition + 1)
    else:
        return
    words = f"{rule.name}: panes are closed and judged"
    tell(state, alert, alert_record(rule, state.revision, alert, FIRING, bare(window), at.now, words), at)


def pass_over(state: RuleState, rule: Rule, judged: Micros, window: Window, at: Judging) -> None:
    """Panes after `judged` come too late, the window's last one being the last: what was violated in a row
    before them is so no more, and everything else stays."""
    since = datetime.fromtimestamp(judged // SECOND, UTC).isoformat()
    say(state, rule, window, "evaluated", f"panes after {since} are passed over", (0, 0), at)
    for alert in [alert for _, alert in sorted(state.open.items()) if alert.state == PENDING]:
        words = f"{rule.name}: pending no more, as panes came too late to be judged"
        ended = replace(alert, transition=alert.transition + 1)
        record = alert_record(rule, state.revision, ended, RESOLVED, bare(window), at.now, words)
        tell(state, ended, record, at)


def resolve(state: RuleState, groups: Iterable[Group], why: str, at: Judging) -> None:
    """End open alerts for another reason than a pane's."""
    for group in sorted(groups):
        alert = state.open[group]
        record = alert.record | {
            "transition": alert.transition + 1,
            "revision": 0,
            "state": RESOLVED,
            "changed_at": max(state.judged or 0, int(alert.record["changed_at"])),
            "judged_at": at.now,
            "summary": f"{alert.record['rule_name']}: {why}",
        }
        tell(state, alert, record, at)


def correct(
    state: RuleState, rule: ComparingRule, record: Record, window: Window, evaluated: Evaluated, at: Judging
) -> None:
    """State a transition's figures anew, if late events have changed them. That is never notified."""
    group = tuple(pair.partition("=")[2] for pair in record["group"])
    evidence = evidence_of(evaluated, evaluated.row_of.get(group), window)
    fields = stated(rule, evidence)
    if all(record[name] == fields[name] for name in ("value", "requests", "parts")):
        return
    told = OpenAlert(group, record["alert_id"], "firing", record["transition"], record["started_at"], 1)
    words = f"{summary(rule, told, record['state'], evidence)}; corrected by late events"
    revision = record["revision"] + 1
    corrected = record | fields | {"revision": revision, "judged_at": at.now, "summary": words}
    state.outbox.alerts.append(corrected)
    state.outbox.decisions.append(transition_decision(corrected, "corrected", at.now))
    alert = state.open.get(group)
    if alert is not None and alert.alert_id == record["alert_id"]:
        state.open[group] = replace(alert, record=corrected)
    else:
        state.closed = [corrected if each is record else each for each in state.closed]


def tell(state: RuleState, alert: OpenAlert, record: Record, at: Judging) -> None:
    """A transition: into the outbox, with the decision; and remembered, so that it can be corrected."""
    state.outbox.alerts.append(record)
    state.outbox.decisions.append(transition_decision(record, record["state"], at.now))
    if record["state"] == RESOLVED:
        state.open.pop(alert.group, None)
        state.closed.append(record)
    else:
        state.open[alert.group] = replace(alert, record=record)


def say(
    state: RuleState,
    rule: Rule,
    window: Window,
    what: str,
    reason: str,
    counted: tuple[int, int],
    at: Judging,
    value: float | None = None,
) -> None:
    """The decision about a pane as a whole; `counted`: how many groups, and how many of them violate."""
    if at.too_late:
        what, reason = "too-late", f"the pane ended too long ago to change an alert: {reason}"
    state.outbox.decisions.append(
        decision_record(
            what,
            reason,
            at.now,
            rule.id,
            state.revision,
            (at.partition, window.end),
            grouping=rule.grouping,
            pane_end=window.end,
            value=value,
            threshold=threshold_of(rule),
            groups=counted[0],
            violating=counted[1],
            parts=window.parts,
            parts_expected=window.parts_expected,
        )
    )


def bare(window: Window) -> Evidence:
    """Of a window, without a figure."""
    return Evidence(
        window.start, window.end, None, 0, window.parts, window.parts_expected, sources=window.sources
    )


def evidence_of(evaluated: Evaluated, row: int | None, window: Window) -> Evidence:
    """What the window says of the group in a row; None: of one that has no data."""
    if row is None:
        return bare(window)
    figures = {name: number(values[row]) for name, values in evaluated.extra.items()}
    return replace(
        bare(window),
        value=number(evaluated.values[row]),
        requests=int(evaluated.requests[row]),
        at_least=bool(evaluated.at_least[row]),
        details=tuple(f"{name}={value:.6g}" for name, value in figures.items() if value is not None),
    )


def _pass(
    state: RuleState,
    rule: ComparingRule | AbsenceRule,
    window: Window,
    verdicts: Mapping[Group, Verdict],
    evidence: Callable[[Group], Evidence],
    at: Judging,
) -> None:
    """Let the pane's verdicts act on the groups' alerts."""
    for group in sorted(verdicts):
        before = state.open.get(group)
        alert, changed = advance(before, verdicts[group], rule.id, group, window.end, rule.consecutive)
        if alert is None:
            continue
        if changed is None:
            state.open[group] = alert
            continue
        found = evidence(group)
        words = summary(rule, before or alert, changed, found)
        tell(state, alert, alert_record(rule, state.revision, alert, changed, found, at.now, words), at)
        _tend(state, rule, group, window.end)


def _verdicts(
    state: RuleState, rule: ComparingRule, evaluated: Evaluated, window: Window, limits: Limits
) -> Iterator[tuple[Group, Verdict]]:
    for violating in np.flatnonzero(evaluated.violates).tolist():
        yield evaluated.group(violating), Verdict.VIOLATES
    without_data = _WITHOUT_DATA[rule.no_data] if window.complete else Verdict.UNKNOWN
    for group in [*state.open, *(group for group in state.seen if group not in state.open)]:
        row = evaluated.row_of.get(group)
        if row is None or evaluated.no_data[row]:
            given_up = _given_up(state, group, window.end, limits)
            yield group, Verdict.HOLDS if given_up else without_data
        elif evaluated.holds[row]:
            yield group, Verdict.HOLDS


def _keep_within(verdicts: dict[Group, Verdict], state: RuleState, limits: Limits) -> int:
    """Leave out groups that would make more alerts than are kept, in their order; how many these are."""
    room = max(limits.most_groups - len(state.open), 0)
    new = [group for group, each in verdicts.items() if each is Verdict.VIOLATES and group not in state.open]
    excess = sorted(new)[room:] if len(new) > room else []
    for group in excess:
        del verdicts[group]
    state.forgotten += len(excess)
    return len(excess)


def _see(state: RuleState, rule: ComparingRule, evaluated: Evaluated, end: Micros, limits: Limits) -> None:
    """Remember which groups had data: all, if the rule alerts when they have none, else those with alerts."""
    if rule.no_data == "alert":
        with_data = evaluated.groups.filter(pl.Series(~evaluated.no_data, dtype=pl.Boolean))
        groups = [()] * int((~evaluated.no_data).sum()) if not rule.keys else with_data.rows()
        for group in groups:
            _saw(state, group, Seen(end, 0), limits)
        return
    for group in state.open:
        row = evaluated.row_of.get(group)
        if row is not None and not evaluated.no_data[row]:
            _saw(state, group, Seen(end, 0), limits)


def _tend(state: RuleState, rule: ComparingRule | AbsenceRule, group: Group, end: Micros) -> None:
    """A group whose alert has changed is watched for as long as it has one."""
    if rule.no_data != "alert":
        if group in state.open:
            state.seen.setdefault(group, Seen(end, 0))
        else:
            state.seen.pop(group, None)


def _saw(state: RuleState, group: Group, seen: Seen, limits: Limits) -> None:
    state.seen.pop(group, None)
    state.seen[group] = seen
    if len(state.seen) > limits.most_groups:
        least = next((each for each in state.seen if each not in state.open), None)
        if least is not None:
            del state.seen[least]
            state.forgotten += 1


def _given_up(state: RuleState, group: Group, end: Micros, limits: Limits) -> bool:
    """Whether a group has had no data for so long that it is missed no more."""
    seen = state.seen.get(group)
    if seen is None or seen.last >= end - limits.forget_after:
        return False
    del state.seen[group]
    return True


def _verdict_in_words(evaluated: Evaluated, window: Window) -> tuple[str, str]:
    """What was decided about the pane as a whole, and why."""
    groups = len(evaluated)
    if not window.whole:
        return "incomplete", "earlier panes of the window are not known"
    if not window.complete:
        return "incomplete", f"{window.parts_expected - window.parts} source partitions stayed behind"
    if evaluated.no_data.all():
        return "no-data", "no group had data"
    if (evaluated.no_data | evaluated.no_baseline).all():
        return "no-baseline", "nothing is known that the value could be held against"
    if (evaluated.no_data | evaluated.no_baseline | evaluated.too_few).all():
        return "too-few-requests", "no group had the requests that the rule wants"
    return "evaluated", f"{int(evaluated.violates.sum())} of {groups} groups violate the rule"


def _groups(rows: pl.DataFrame, keys: tuple[str, ...]) -> list[Group]:
    return rows.select(keys).rows() if keys else [()] * rows.height
