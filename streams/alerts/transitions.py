"""What verdicts do to a rule's alerts: transitions and decisions into the outbox of its state.

Common to all kinds of rules that follow groups by verdicts; what a verdict rests on is the kind's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from schemas.time import SECOND, Micros
from streams.alerts.lifecycle import PENDING, RESOLVED, Group, OpenAlert, Record, Verdict, advance
from streams.alerts.limits import Judging, Limits
from streams.alerts.records import (
    Evidence,
    StatedRule,
    alert_record,
    decision_record,
    stated,
    transition_decision,
)
from streams.alerts.state import RuleState, Seen
from streams.alerts.window import HeldPanes, Window


def apply(
    state: RuleState,
    rule: StatedRule,
    end: Micros,
    verdicts: Mapping[Group, Verdict],
    evidence_of: Callable[[Group], Evidence],
    at: Judging,
) -> None:
    """Let the verdicts of the pane that ends at `end` act on the groups' alerts."""
    for group in sorted(verdicts):
        before = state.open.get(group)
        alert, changed = advance(before, verdicts[group], rule.id, group, end, rule.consecutive)
        if alert is None:
            continue
        if changed is None:
            state.open[group] = alert
            continue
        evidence = evidence_of(group)
        summary = rule.summary(before or alert, changed, evidence)
        emit(state, alert, alert_record(rule, state.revision, alert, changed, evidence, at.now, summary), at)
        if rule.no_data != "alert":
            _watch_while_open(state, group, end)


def emit(state: RuleState, alert: OpenAlert, record: Record, at: Judging) -> None:
    """A transition: into the outbox, with the decision; and remembered, so that it can be corrected."""
    emit_unremembered(state, record, at.now)
    if record["state"] == RESOLVED:
        state.open.pop(alert.group, None)
        state.closed.append(record)
    else:
        state.open[alert.group] = replace(alert, record=record)


def emit_unremembered(state: RuleState, record: Record, now: Micros) -> None:
    """A transition of an alert that its kind keeps in a way of its own."""
    state.outbox.alerts.append(record)
    state.outbox.decisions.append(transition_decision(record, record["state"], now))


def correct(
    state: RuleState, rule: StatedRule, record: Record, group: Group, evidence: Evidence, now: Micros
) -> None:
    """State a transition's figures anew, if late events have changed them. That is never notified."""
    fields = stated(rule, evidence)
    if all(record[name] == fields[name] for name in ("value", "requests", "parts")):
        return
    as_it_was = OpenAlert(group, record["alert_id"], "firing", record["transition"], record["started_at"], 1)
    summary = f"{rule.summary(as_it_was, record['state'], evidence)}; corrected by late events"
    revision = record["revision"] + 1
    corrected = record | fields | {"revision": revision, "judged_at": now, "summary": summary}
    state.outbox.alerts.append(corrected)
    state.outbox.decisions.append(transition_decision(corrected, "corrected", now))
    alert = state.open.get(group)
    if alert is not None and alert.alert_id == record["alert_id"]:
        state.open[group] = replace(alert, record=corrected)
    else:
        state.closed = [corrected if each is record else each for each in state.closed]


def decide_pane(
    state: RuleState,
    rule: StatedRule,
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
            threshold=rule.stated_threshold,
            groups=counted[0],
            violating=counted[1],
            parts=window.parts,
            parts_expected=window.parts_expected,
        )
    )


def pass_over(state: RuleState, rule: StatedRule, held: HeldPanes, upto: Micros, at: Judging) -> None:
    """Panes after `state.judged`, up to `upto`, come too late: what was violated in a row before them is so
    no more, and everything else stays."""
    window = held.ending_at(upto).window
    since = datetime.fromtimestamp((state.judged or 0) // SECOND, UTC).isoformat()
    decide_pane(state, rule, window, "evaluated", f"panes after {since} are passed over", (0, 0), at)
    for alert in [alert for _, alert in sorted(state.open.items()) if alert.state == PENDING]:
        summary = f"{rule.name}: pending no more, as panes came too late to be judged"
        ended = replace(alert, transition=alert.transition + 1)
        evidence = Evidence.without_data(window)
        emit(
            state,
            ended,
            alert_record(rule, state.revision, ended, RESOLVED, evidence, at.now, summary),
            at,
        )
    state.closed = []


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
        emit(state, alert, record, at)


def remember(state: RuleState, group: Group, seen: Seen, limits: Limits) -> Group | None:
    """A group had data. Of too many, one without an alert is let go, which had data longest ago: that one."""
    state.seen.pop(group, None)
    state.seen[group] = seen
    if len(state.seen) > limits.most_groups:
        least = next((each for each in state.seen if each not in state.open), None)
        if least is not None:
            del state.seen[least]
            state.forgotten += 1
            return least
    return None


def given_up(state: RuleState, group: Group, end: Micros, limits: Limits) -> bool:
    """Whether a group has had no data for so long that it is missed no more; then it is forgotten."""
    seen = state.seen.get(group)
    if seen is None or seen.last >= end - limits.forget_after:
        return False
    del state.seen[group]
    return True


def _watch_while_open(state: RuleState, group: Group, end: Micros) -> None:
    """A group whose alert has changed is watched for as long as it has one."""
    if group in state.open:
        state.seen.setdefault(group, Seen(end, 0))
    else:
        state.seen.pop(group, None)
