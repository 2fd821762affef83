"""Whatever happens, in whatever order, and wherever the worker is killed: every transition is decided for
every endpoint that takes it, and is told once."""

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import SECOND
from streams.alerts.rule import Rule
from streams.endpoints.endpoint import Endpoint
from streams.notifications.grouping import Intervals
from streams.notifications.notifier import Terms
from streams.notifications.silence import Acknowledgement, Silence, parse_silence
from tests.streams.notifications.broken_worker import Worker
from tests.streams.notifications.examples import START, alert_record, endpoint_of, rule_of

TERMS = Terms(Intervals(group_interval=5 * SECOND))
HELD = {"silenced", "acknowledged", "inhibited", "quiet"}

RULES: tuple[dict[str, Rule], ...] = (
    {each.id: each for each in (rule_of("slow", repeat_interval="1m"), rule_of("down"))},
    {each.id: each for each in (rule_of("slow", inhibited_by=["down"]), rule_of("down"))},
    {
        each.id: each
        for each in (
            rule_of("slow", quiet_hours=[{"start": "22:13", "end": "22:14"}]),
            rule_of("down", inhibits=["slow"]),
        )
    },
)
ENDPOINTS: tuple[dict[str, Endpoint], ...] = tuple(
    {each.id: each for each in endpoints}
    for endpoints in (
        (endpoint_of("a"), endpoint_of("b", subscriptions=[{"types": ["alert.firing"]}])),
        (endpoint_of("a"), endpoint_of("c", subscriptions=[{"types": ["alert.resolved"]}])),
        (endpoint_of("a", subscriptions=[{"types": ["alert.*"], "rules": ["down"]}]),),
        (
            endpoint_of("a"),
            endpoint_of("b"),
            endpoint_of(
                "d", subscriptions=[{"types": ["*"], "filters": [{"property": "group.model", "value": "m1"}]}]
            ),
        ),
    )
)


def at(offset: int) -> str:
    return (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC) + timedelta(seconds=offset)).isoformat()


def silence(id_: str, matcher: str, starts: int, ends: int) -> Silence | Acknowledgement:
    definition = {"id": id_, "matchers": [matcher], "author": "ada", "reason": "work"}
    return parse_silence({**definition, "starts_at": at(starts), "ends_at": at(ends)})


def acknowledgement(alert_id: str) -> Silence | Acknowledgement:
    return parse_silence(
        {
            "kind": "acknowledgement",
            "id": f"ack_{alert_id}",
            "alert_id": alert_id,
            "author": "ada",
            "acknowledged_at": at(0),
        }
    )


SILENCES: tuple[dict[str, Silence | Acknowledgement], ...] = (
    {},
    {"s1": silence("s1", "rule=slow", 0, 8)},
    {"s2": silence("s2", "model=~m*", 3, 20), "ack_al_0": acknowledgement("al_0")},
    {"s3": silence("s3", "severity=error", 5, 12)},
)

WAITS = (0.0, 0.1, 0.35, 1.1, 6.0, 70.0)


@dataclass(frozen=True)
class Round:
    """Alerts change, perhaps people change something, the worker takes a step and time passes; perhaps it is
    killed meanwhile."""

    alerts: list[int]
    repeated: int | None
    corrected: int | None
    rules: int | None
    endpoints: int | None
    silences: int | None
    killed_after: int | None
    wait: float


def rounds(*, endpoints_change: bool = True) -> st.SearchStrategy[list[Round]]:
    def seldom(most: int) -> st.SearchStrategy[int | None]:
        return st.one_of(st.none(), st.none(), st.integers(0, most))

    return st.lists(
        st.builds(
            Round,
            alerts=st.lists(st.integers(0, 4), max_size=4),
            repeated=seldom(30),
            corrected=seldom(30),
            rules=seldom(len(RULES) - 1),
            endpoints=seldom(len(ENDPOINTS) - 1) if endpoints_change else st.none(),
            silences=seldom(len(SILENCES) - 1),
            killed_after=st.one_of(st.none(), st.integers(0, 12), st.integers(0, 12)),
            wait=st.sampled_from(WAITS),
        ),
        max_size=15,
    )


class World:
    """The alerts that are raised, and the worker that hears them."""

    def __init__(self) -> None:
        self.now = START
        self.worker = Worker(TERMS)
        self.setup: list[Any] = [RULES[0], ENDPOINTS[0], SILENCES[0]]
        self.worker.define(*self.setup)
        self.life: dict[int, tuple[str, int, str]] = {}
        self.lives = 0

    def alert(self, slot: int) -> None:
        """The next transition of an alert: fires, fires anew (a further step), resolves."""
        alert_id, transition, state = self.life.get(slot, ("", 0, "resolved"))
        if state == "resolved":
            alert_id, transition, state = f"al_{self.lives}", 1, "firing"
            self.lives += 1
        elif slot % 2 and transition < 3:
            transition += 1
        else:
            transition, state = transition + 1, "resolved"
        self.life[slot] = (alert_id, transition, state)
        rule, group = ("down", {"model": "m1"}) if slot == 0 else ("slow", {"model": f"m{slot}"})
        self.worker.alerts.append(
            alert_record(alert_id, transition, state, rule=rule, group=group, at=self.now)
        )

    def round(self, round_: Round) -> None:
        alerts, worker = self.worker.alerts, self.worker
        for slot in round_.alerts:
            self.alert(slot)
        if round_.repeated is not None and alerts:
            alerts.append(alerts[round_.repeated % len(alerts)])
        if round_.corrected is not None and alerts:
            corrected = alerts[round_.corrected % len(alerts)]
            alerts.append({**corrected, "revision": corrected["revision"] + 1, "value": 1.0})
        chosen = ((RULES, round_.rules), (ENDPOINTS, round_.endpoints), (SILENCES, round_.silences))
        for place, (choices, choice) in enumerate(chosen):
            if choice is not None:
                self.setup[place] = choices[choice]
        worker.define(*self.setup)
        worker.killed_after = round_.killed_after
        worker.step(3, self.now)
        self.wait(round_.wait)

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.worker.tick(self.now)

    def drain(self) -> None:
        """Everything is heard, nothing holds back, every timer has run."""
        self.worker.killed_after = None
        for _ in range(len(self.worker.alerts) + 1):
            self.worker.step(3, self.now)
        self.setup = [RULES[0], self.setup[1], {}]
        self.worker.define(*self.setup)
        for _ in range(8):
            self.wait(6.0)

    def run(self, rounds: list[Round]) -> None:
        for round_ in rounds:
            self.round(round_)
        self.drain()
        # A judge that starts anew may tell all of it again, to a worker that starts anew.
        self.worker.killed_after = 0
        self.worker.alerts += list(self.worker.alerts)
        self.worker.step(1, self.now)
        self.drain()


def decided(world: World) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """By transition and endpoint, in their order; told twice is once."""
    once = {record["decision_id"]: record for record in world.worker.decisions}
    found = defaultdict(list)
    for record in once.values():
        transition = f"{record['alert_id']}/{record['transition']}"
        found[(transition, record["endpoint_id"] or "")].append(record)
    return found


def told(world: World) -> dict[tuple[str, str], set[str]]:
    """The notifications that tell of a transition, by it and the endpoint. Reminders tell nothing new."""
    found = defaultdict(set)
    for record in world.worker.notifications:
        for transition in record["alerts"] if record["type"] != "alert.reminder" else ():
            found[(transition, record["endpoint_id"])].add(record["notification_id"])
    return dict(found)


@settings(max_examples=100, deadline=None)
@given(rounds())
def test_every_transition_is_decided_and_told_once(rounds: list[Round]) -> None:
    world = World()
    world.run(rounds)

    same_id: dict[str, dict[str, Any]] = {}
    for record in world.worker.notifications:
        assert same_id.setdefault(record["notification_id"], record) == record
    notified = told(world)
    assert all(len(ids) == 1 for ids in notified.values()), "told by two notifications"

    decisions = decided(world)
    for (transition, endpoint_id), records in decisions.items():
        final = [each["what"] for each in records if each["what"] not in HELD]
        assert len(final) <= 1, f"{transition} at {endpoint_id}: {final}"
        assert not final or records[-1]["what"] == final[0], "something came after it was final"
        if final == ["notified"]:
            assert notified[(transition, endpoint_id)] == {records[-1]["notification_id"]}
    assert set(notified) == {
        place for place, records in decisions.items() if records[-1]["what"] == "notified"
    }
    heard = {f"{each['alert_id']}/{each['transition']}" for each in world.worker.alerts}
    assert heard == {transition for transition, _ in decisions}, "a transition without a decision"


@settings(max_examples=50, deadline=None)
@given(rounds(endpoints_change=False))
def test_what_still_fires_is_told_once_nothing_holds_it_back(rounds: list[Round]) -> None:
    world = World()
    world.run(rounds)

    firing = {
        f"{alert_id}/{transition}" for alert_id, transition, state in world.life.values() if state == "firing"
    }
    for endpoint_id in ENDPOINTS[0]:
        assert firing <= {transition for transition, endpoint in told(world) if endpoint == endpoint_id}


@settings(max_examples=50, deadline=None)
@given(rounds(endpoints_change=False))
def test_whoever_is_told_that_it_fires_is_told_that_it_is_over(rounds: list[Round]) -> None:
    world = World()
    world.run(rounds)

    notified = {transition for transition, endpoint in told(world) if endpoint == "a"}
    resolved = {each["alert_id"]: each for each in world.worker.alerts if each["state"] == "resolved"}
    fired = {transition.partition("/")[0] for transition in notified}
    for alert_id in fired & resolved.keys():
        assert f"{alert_id}/{resolved[alert_id]['transition']}" in notified


@settings(max_examples=40, deadline=None)
@given(rounds(endpoints_change=False))
def test_killing_the_worker_changes_nothing_but_when(rounds: list[Round]) -> None:
    """With what is set up unchanged, the same transitions are told to the same endpoints."""
    unchanged = [replace(each, rules=None, silences=None) for each in rounds]
    killed, alive = World(), World()
    killed.run(unchanged)
    alive.run([replace(each, killed_after=None) for each in unchanged])

    assert told(killed).keys() == told(alive).keys()
