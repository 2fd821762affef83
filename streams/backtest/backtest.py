"""A rule held against history, by the code that holds it against the present: the judge, and the notifier.

What comes of it is what would have been published, had the rule been set up when the backtest begins, and
had all events been there in time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from schemas.time import SECOND, Micros
from streams.alerts.errors import AlertError
from streams.alerts.lifecycle import Record
from streams.alerts.limits import Limits
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.rule import Rule
from streams.backtest.replay import History, PaneReplay, ReplayStep, SampleReplay
from streams.catalogue.panes import JUDGED
from streams.endpoints.endpoint import Endpoint
from streams.notifications.notifier import Notifier, Terms
from streams.notifications.silence import Acknowledgement, Silence
from streams.notifications.state import Outbox

_REPORTED_EVERY: Final = 60
"""Steps without an alert after which it is reported how far the backtest has come."""
_WRITTEN_WITHIN: Final[Micros] = 20 * SECOND
"""So long after its close a pane is in ClickHouse."""
_MOMENT: Final[Micros] = SECOND // 10
"""How often the notifier looks what is due."""


class BacktestError(AlertError):
    """The rule can't be held against this span of history; the message says why."""


@dataclass(frozen=True)
class Backtested:
    """What came of some panes, or samples."""

    through: Micros
    """Everything up to here has been judged."""
    alerts: Sequence[Record] = ()
    """Transitions, as in `schemas/alert.avsc`, in their order."""
    notifications: Sequence[Record] = ()
    """As in `schemas/notification.avsc`."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind: of the judge, and of the notifier."""


def backtest(
    rule: Rule,
    history: History,
    start: Micros,
    end: Micros,
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    silences: Mapping[str, Silence | Acknowledgement] | None = None,
    terms: Terms | None = None,
    limits: Limits | None = None,
    lateness: Micros = 10 * SECOND,
) -> Iterator[Backtested]:
    """Judges the panes that end after `start`, up to `end`, or the samples in between; what comes of it as it
    comes.

    Give up the iterator, and it ends. Memory is what judge and notifier keep. A budget begins with the
    period that `start` lies in, so that what was used before counts; what was published of it before `start`
    is left out. Raises BacktestError at once when the span holds no whole pane, and whatever `history`
    raises.
    """
    length = JUDGED[rule.pane].length
    if end // length <= start // length:
        raise BacktestError(f"no pane of {rule.pane} ends in this span: nothing would have been judged")
    if not rule.enabled:
        rule = rule.model_copy(update={"enabled": True})
    terms, limits = terms or Terms(), limits or Limits()
    notifier = Notifier(terms)
    notifier.define({rule.id: rule}, endpoints or {}, silences or {})
    if rule.grouping == SAMPLE_GROUPING:
        return _run(SampleReplay(rule, history, limits), notifier, start, end)
    return _run(PaneReplay(rule, history, limits, terms.zone, lateness), notifier, start, end)


def settled(end: Micros, now: Micros, lateness: Micros) -> Micros:
    """Up to where a backtest to `end` can go: what has closed only just now is not all in ClickHouse."""
    return min(end, now - lateness - _WRITTEN_WITHIN)


def _run(
    replay: PaneReplay | SampleReplay, notifier: Notifier, start: Micros, end: Micros
) -> Iterator[Backtested]:
    gathered = _Gathered()
    through = start
    for step in replay.steps(start, end):
        outboxes = list(_notified(notifier, step.judged.alerts, step.now, step.now + replay.length))
        through = max(through, step.through)
        gathered.take(step, outboxes)
        if gathered.is_due:
            yield gathered.given(through)
    yield gathered.given(through)


def _notified(notifier: Notifier, alerts: Sequence[Record], now: Micros, until: Micros) -> Iterator[Outbox]:
    """What the notifier makes of these alerts, up to `until` by the clock."""
    if alerts:
        yield notifier.take(alerts, now)
    if not notifier.open_alerts and not notifier.groups:
        return
    time: Micros | None = now
    while time is not None and time < until:
        yield notifier.tick(time)
        due = notifier.due
        time = None if due is None else max(due, time + _MOMENT)


@dataclass
class _Gathered:
    """What has come since it was last given."""

    alerts: list[Record] = field(default_factory=list)
    notifications: list[Record] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    steps: int = 0

    def take(self, step: ReplayStep, outboxes: Sequence[Outbox]) -> None:
        self.steps += 1
        if step.before:
            return
        # Offsets of the sources are made up here, and groups of a pane come in any order.
        alerts = sorted(step.judged.alerts, key=lambda alert: alert["group"])
        self.alerts += [alert | {"sources": []} for alert in alerts]
        self.decisions.update(decision["what"] for decision in step.judged.decisions)
        for outbox in outboxes:
            self.notifications += outbox.notifications
            self.decisions.update(decision["what"] for decision in outbox.decisions)

    @property
    def is_due(self) -> bool:
        return bool(self.alerts or self.notifications) or self.steps >= _REPORTED_EVERY

    def given(self, through: Micros) -> Backtested:
        given = Backtested(through, self.alerts, self.notifications, dict(self.decisions))
        self.alerts, self.notifications, self.decisions, self.steps = [], [], Counter(), 0
        return given
