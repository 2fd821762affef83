"""The judge through any history: however the log is cut, whatever a crash loses, wherever it begins again.

What was told is compared with what the log comes to when it is worked out by hand (`judged_by_hand`).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.time import DAY, MINUTE, Micros
from streams.alerts.closed_share import ClosedShare
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged
from streams.alerts.limits import Limits
from tests.streams.alerts import judged_by_hand
from tests.streams.alerts.closed_panes import Topic, rule

BERLIN = ZoneInfo("Europe/Berlin")
MIDNIGHT = int(datetime(2026, 10, 25, tzinfo=BERLIN).timestamp()) * 1_000_000
BEGIN: Micros = MIDNIGHT - 5 * MINUTE
"""The script runs over the beginning of a day."""
LIMITS = Limits(patience=DAY, too_late=DAY, corrections=30 * MINUTE)
SERVICE = {"grouping": "service"}
RULES = [
    rule(id="total", threshold=12),
    rule(id="total-3", window="3m", threshold=25, consecutive=2),
    rule(
        id="errors", metric="errors", aggregation="ratio", threshold="40 %",
        window="2m", no_data="ok", **SERVICE,
    ),
    rule(id="least", consecutive=3, minimum_requests=3, threshold=4, **SERVICE),
    rule(id="alerts", window="2m", no_data="alert", threshold=14, consecutive=2, **SERVICE),
    rule(id="gone", kind="absence", window="2m", **SERVICE),
    rule(
        id="budget", kind="budget", metric="prompt_tokens", grouping="user", period="day",
        limit=40, steps=["50 %", "80 %", "100 %"],
    ),
]  # fmt: skip


def by_hand() -> list[judged_by_hand.Rule]:
    hand = judged_by_hand
    return [
        hand.Threshold("total", "total", 1, 12),
        hand.Threshold("total-3", "total", 3, 25, consecutive=2),
        hand.Threshold("errors", "service", 2, 0.4, "errors", ratio=True, no_data="ok"),
        hand.Threshold("least", "service", 1, 4, consecutive=3, least=3),
        hand.Threshold("alerts", "service", 2, 14, no_data="alert", consecutive=2),
        hand.Absence("gone", "service", 2),
        hand.DailyBudget("budget", "user", 40, (0.5, 0.8, 1.0), BERLIN),
    ]


FIGURES = st.builds(
    lambda requests, errors, tokens: {
        "requests": requests, "errors": min(requests, errors), "prompt_tokens": tokens
    },
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(0, 15),
)  # fmt: skip
GROUPS = st.dictionaries(st.sampled_from(["a", "b"]), FIGURES, max_size=2)


@st.composite
def logs(draw: st.DrawFn) -> Topic:
    """What one to three source partitions say, each in its own time, of a dozen minutes."""
    said = [draw(reports(source)) for source in range(draw(st.integers(1, 3)))]
    topic, chance = Topic(partitions=len(said)), draw(st.randoms(use_true_random=False))
    source = 0
    while any(said):
        if not said[source] or chance.random() < 0.15:
            source = chance.choice([source for source, left in enumerate(said) if left])
        said[source].pop(0)(topic)
    return topic


@st.composite
def reports(draw: st.DrawFn, source: int) -> list[Callable[[Topic], None]]:
    """The records of one source partition: minutes that close, come late, come again; watermarks."""
    said: list[Callable[[Topic], None]] = []
    reached = offset = 0
    revisions: dict[int, int] = {}
    for step in draw(
        st.lists(st.sampled_from(["close", "close", "close", "late", "again", "back"]), max_size=14)
    ):
        minute = reached + 1 if step == "close" else max(reached - draw(st.integers(0, 3)), 0)
        reached = max(reached, minute)
        end = BEGIN + minute * MINUTE
        if step in ("close", "late"):
            offset += 1
            revisions[minute] = revisions.get(minute, -1) + 1
        of = {} if step in ("again", "back") or not minute else draw(GROUPS)
        if step == "again" and said:
            said += said[-5:]
        if of:
            total = {name: sum(each[name] for each in of.values()) for name in next(iter(of.values()))}
            for grouping, rows in (("total", {(): total}), ("service", of), ("user", of)):
                more = {"partition": source, "offset": offset, "revision": revisions[minute]}
                said.append(partial(Topic.share, end=end, groups=rows, grouping=grouping, **more))
        watermark = end if step == "back" else BEGIN + reached * MINUTE
        watermark += draw(st.sampled_from([0, 5_000_000]))
        for table in ("chat.windows", "chat.usage"):
            said.append(partial(Topic.heartbeat, watermark=watermark, partition=source, table=table))
    return said


class Worker:
    """Takes the log fetch by fetch, as the agent does; killed now and then, and begun anew by the next."""

    def __init__(self, log: Sequence[ClosedShare]) -> None:
        self._log = log
        self.entries: dict[bytes, bytes] = {}
        self.sent: list[Mapping[str, Any]] = []
        self.committed = 0
        self.begin()

    def begin(self) -> None:
        self.judge = Judge(0, 1, RULES, LIMITS, BERLIN)
        self.judge.restore(self.entries)
        self.sent += self.judge.outbox().alerts
        self.at = self.judge.reading_from(self.committed)

    def step(self, count: int, now: Micros, lost: str, written: int) -> None:
        judged = self.judge.take(self._log[self.at : self.at + count], now, self.committed)
        self.at = min(self.at + count, len(self._log))
        if lost == "all":
            return self.begin()
        if lost == "some":
            self._write(judged, written)
            return self.begin()
        self._write(judged, len(judged.entries))
        if lost == "sent":
            return self.begin()
        self.sent += judged.alerts
        if lost == "acknowledged":
            return self.begin()
        self.committed = max(self.committed, self.at)
        if lost == "after":
            self.begin()
        return None

    def _write(self, judged: Judged, count: int) -> None:
        for key, entry in list(judged.entries.items())[:count]:
            if entry is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = entry


def transitions(sent: Sequence[Mapping[str, Any]]) -> set[judged_by_hand.Transition]:
    """What was told, corrections aside; told again it says the same."""
    said: dict[tuple[str, int], Mapping[str, Any]] = {}
    for record in sent:
        if record["revision"] == 0:
            first = said.setdefault((record["alert_id"], record["transition"]), record)
            assert first == record | {"judged_at": first["judged_at"]}
    return {
        (
            r["rule_id"],
            tuple(pair.partition("=")[2] for pair in r["group"]),
            r["state"],
            r["transition"],
            r["changed_at"],
            r["alert_id"],
        )
        for r in said.values()
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(logs(), st.data())
def test_every_transition_is_told_once_under_one_id_however_the_log_is_read(
    topic: Topic, data: st.DataObject
) -> None:
    worker = Worker(topic.records)
    now = BEGIN + 30 * MINUTE
    for _ in range(data.draw(st.integers(1, 12), "steps")):
        count = data.draw(st.integers(1, 25), "count")
        lost = data.draw(st.sampled_from(["", "", "all", "some", "sent", "acknowledged", "after"]), "lost")
        written = data.draw(st.integers(0, len(RULES)), "written") if lost == "some" else 0
        worker.step(count, now, lost, written)
        now += 1
    while worker.at < len(topic.records):
        worker.step(40, now, "", 0)

    told, expected = transitions(worker.sent), judged_by_hand.judged(topic.records, by_hand())
    assert (told - expected, expected - told) == (set(), set())
