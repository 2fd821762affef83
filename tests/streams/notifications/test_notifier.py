"""What is told, to whom, when: one alert after the other."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.time import HOUR, MINUTE, SECOND
from streams.alerts.rule import Rule, parse_rule
from streams.endpoints.endpoint import Endpoint
from streams.notifications.notifier import Notifier, Planned, Terms
from streams.notifications.silence import Acknowledgement, Silence, parse_silence
from tests.streams.notifications.examples import START, alert_record, endpoint_of, rule_of

WAIT = 300_000
"""The group wait."""


class Room:
    """A notifier and its clock."""

    def __init__(
        self, *endpoints: Endpoint, rules: tuple[Rule, ...] = (), terms: Terms | None = None
    ) -> None:
        self.now = START
        self.notifier = Notifier(terms)
        self.rules = {rule.id: rule for rule in rules or (rule_of(),)}
        self.endpoints = {each.id: each for each in endpoints or (endpoint_of(),)}
        self.silences: dict[str, Silence | Acknowledgement] = {}
        self.told: list[dict[str, Any]] = []
        self.decided: list[dict[str, Any]] = []
        self.define()

    def define(
        self,
        silences: Mapping[str, Silence | Acknowledgement] | None = None,
        *,
        endpoints: tuple[Endpoint, ...] | None = None,
    ) -> None:
        if silences is not None:
            self.silences = dict(silences)
        if endpoints is not None:
            self.endpoints = {each.id: each for each in endpoints}
        self.notifier.define(self.rules, self.endpoints, self.silences)

    def hear(self, *records: dict[str, Any]) -> None:
        self._note(self.notifier.take(records, self.now))

    def wait(self, span: int) -> list[dict[str, Any]]:
        """Let time pass, with a tick ten times a second (at the end, for long spans); what was told."""
        before = len(self.told)
        end = self.now + span
        while self.now < end:
            self.now = min(end, self.now + max(100_000, span // 50))
            self._note(self.notifier.tick(self.now))
        return self.told[before:]

    def _note(self, planned: Planned) -> None:
        self.told += planned.notifications
        self.decided += planned.decisions

    def decisions(self, transition: str) -> list[str]:
        return [
            each["what"] for each in self.decided if f"{each['alert_id']}/{each['transition']}" == transition
        ]


def told_of(notifications: list[dict[str, Any]]) -> list[tuple[str, str, list[str]]]:
    return [(each["endpoint_id"], each["type"], each["alerts"]) for each in notifications]


def silence(matcher: str = "rule=slow", ends: int = 2 * HOUR) -> Silence | Acknowledgement:
    starts = datetime.fromtimestamp(START / SECOND, UTC)
    return parse_silence(
        {
            "id": "si_1",
            "matchers": [matcher],
            "starts_at": starts.isoformat(),
            "ends_at": (starts + timedelta(microseconds=ends)).isoformat(),
            "author": "ada",
            "reason": "the provider migrates",
        }
    )


def acknowledgement(alert_id: str = "al_1") -> Silence | Acknowledgement:
    return parse_silence(
        {
            "kind": "acknowledgement",
            "id": f"ack_{alert_id}",
            "alert_id": alert_id,
            "author": "ada",
            "acknowledged_at": "2023-11-14T22:13:20Z",
        }
    )


def test_an_alert_is_told_after_the_group_wait_and_so_is_its_end() -> None:
    room = Room()

    room.hear(alert_record())
    assert room.wait(WAIT - 1) == []
    assert told_of(room.wait(1)) == [("ops", "alert.firing", ["al_1/1"])]

    room.hear(alert_record(transition=2, state="resolved"))
    assert told_of(room.wait(MINUTE)) == [("ops", "alert.resolved", ["al_1/2"])]
    assert room.decisions("al_1/1") == room.decisions("al_1/2") == ["notified"]
    assert room.wait(2 * MINUTE) == []
    assert (room.notifier.open_alerts, room.notifier.groups) == (0, 0)


def test_the_body_says_what_has_happened_and_where_to_look() -> None:
    room = Room(terms=Terms(public_url="https://gauge.example.org"))
    room.hear(alert_record(group={"provider": "openai", "model": "o3"}, details=["mean=4100"]))

    [notification] = room.wait(WAIT)

    body = json.loads(notification["body"])
    assert (body["type"], body["timestamp"]) == ("alert.firing", "2023-11-14T22:13:20.300000Z")
    assert body["data"] | {"alerts": ...} == {
        "version": 1,
        "group": {"rule": "slow"},
        "part": 1,
        "parts": 1,
        "total": 1,
        "alerts": ...,
    }
    assert body["data"]["alerts"] == [
        {
            "alert_id": "al_1",
            "transition": 1,
            "transitions": [1],
            "state": "firing",
            "severity": "error",
            "summary": "Average latency is 7.2 s, over 5 s",
            "rule_id": "slow",
            "rule_name": "Slow",
            "rule_revision": 1,
            "kind": "threshold",
            "labels": {"team": "search"},
            "grouping": "model",
            "group": {"provider": "openai", "model": "o3"},
            "started_at": "2023-11-14T22:13:20.000000Z",
            "changed_at": "2023-11-14T22:13:20.000000Z",
            "window": {"start": "2023-11-14T22:12:20.000000Z", "end": "2023-11-14T22:13:20.000000Z"},
            "metric": "latency",
            "aggregation": "avg",
            "unit": "ms",
            "value": 7200.5,
            "threshold": 5000.0,
            "step": None,
            "requests": 120,
            "coverage": {"parts": 4, "expected": 4},
            "details": {"mean": "4100"},
            "sources": ["chat.requests/0/17-99"],
            "links": {
                "alert": "https://gauge.example.org/api/alerts/al_1",
                "events": "https://gauge.example.org/events?alert=al_1&transition=1",
            },
        }
    ]


def test_what_changes_in_a_group_is_told_together_once_in_an_interval() -> None:
    room = Room()
    room.hear(alert_record("al_1"), alert_record("al_2"))
    assert told_of(room.wait(WAIT)) == [("ops", "alert.firing", ["al_1/1", "al_2/1"])]

    room.hear(alert_record("al_3"))
    assert room.wait(30 * SECOND) == []
    room.hear(alert_record("al_2", 2, "resolved"))

    assert told_of(room.wait(30 * SECOND)) == [
        ("ops", "alert.firing", ["al_3/1"]),
        ("ops", "alert.resolved", ["al_2/2"]),
    ]


def test_groups_are_told_apart_by_what_the_service_groups_by() -> None:
    room = Room(terms=Terms(group_by=("rule", "model")))

    room.hear(*(alert_record(f"al_{model}", group={"model": model}) for model in ("o1", "o3")))

    assert [json.loads(each["body"])["data"]["group"] for each in room.wait(WAIT)] == [
        {"rule": "slow", "model": "o1"},
        {"rule": "slow", "model": "o3"},
    ]


def test_one_notification_tells_what_fired_and_resolved_meanwhile() -> None:
    room = Room()

    room.hear(alert_record(), alert_record(transition=2, state="resolved"))

    assert told_of(room.wait(WAIT)) == [("ops", "alert.resolved", ["al_1/1", "al_1/2"])]


def test_steps_of_a_budget_are_told_one_by_one() -> None:
    room = Room()

    room.hear(alert_record(step=0.8), alert_record(transition=2, step=1.0))

    told = room.wait(WAIT)
    assert told_of(told) == [("ops", "alert.firing", ["al_1/1"]), ("ops", "alert.firing", ["al_1/2"])]
    assert [json.loads(each["body"])["data"]["alerts"][0]["step"] for each in told] == [0.8, 1.0]


@pytest.mark.parametrize(("tell_reset", "told"), [(False, 1), (True, 2)])
def test_that_a_budgets_period_is_over_is_told_where_the_rule_says_so(tell_reset: bool, told: int) -> None:
    budget = {"kind": "budget", "metric": "tokens", "grouping": "user", "limit": "1M", "period": "day"}
    room = Room(
        rules=(
            parse_rule(
                {"id": "slow", "name": "Spent", "severity": "error", **budget, "tell_reset": tell_reset}
            ),
        )
    )
    room.hear(alert_record(kind="budget"))
    room.wait(WAIT)
    room.hear(alert_record(transition=2, state="resolved", kind="budget"))
    room.wait(MINUTE)

    assert len(room.told) == told
    assert room.decisions("al_1/2") == (["notified"] if tell_reset else ["unmatched"])


def test_a_storm_is_told_in_few_notifications_and_nothing_is_lost() -> None:
    room = Room(endpoint_of("a"), endpoint_of("b"))
    storm = [alert_record(f"al_{number}", group={"model": f"m{number}"}) for number in range(1_000)]

    for begin in range(0, 1_000, 250):
        room.hear(*storm[begin : begin + 250])
        room.wait(50_000)
    room.wait(10 * SECOND)

    for endpoint_id in ("a", "b"):
        alerts = [each["alerts"] for each in room.told if each["endpoint_id"] == endpoint_id]
        assert len(alerts) <= 5
        assert all(len(each) <= 200 for each in alerts)
        assert sorted(told for each in alerts for told in each) == sorted(
            f"al_{number}/1" for number in range(1_000)
        )
    parts = [json.loads(each["body"])["data"] for each in room.told if each["endpoint_id"] == "a"]
    assert [(each["part"], each["parts"]) for each in parts] == [(part, 5) for part in range(1, 6)]


def test_while_a_storm_goes_on_the_rest_of_a_notification_waits_for_company() -> None:
    room = Room()
    room.hear(*(alert_record(f"al_{number}") for number in range(150)))
    room.wait(200_000)
    room.hear(*(alert_record(f"al_{number}") for number in range(150, 300)))

    assert [len(each["alerts"]) for each in room.wait(100_000)] == [200]
    assert [len(each["alerts"]) for each in room.wait(WAIT)] == [100]


def test_what_a_silence_held_back_is_told_at_its_end_if_it_still_fires() -> None:
    room = Room()
    room.define({"si_1": silence(ends=10 * MINUTE)})
    room.hear(alert_record("al_1"), alert_record("al_2"))

    assert room.wait(5 * MINUTE) == []
    room.hear(alert_record("al_2", 2, "resolved"))

    assert told_of(room.wait(6 * MINUTE)) == [("ops", "alert.firing", ["al_1/1"])]
    assert room.decisions("al_1/1") == ["silenced", "notified"]
    assert room.decisions("al_2/1") == room.decisions("al_2/2") == ["silenced"]
    held = next(each for each in room.decided if each["what"] == "silenced")
    assert (held["silence_id"], held["endpoint_id"]) == ("si_1", "ops")
    assert "silenced by ada until 2023-11-14T22:23:20+00:00: the provider migrates" in held["reason"]


def test_a_silence_that_is_taken_back_ends_at_once() -> None:
    room = Room()
    room.define({"si_1": silence()})
    room.hear(alert_record())
    room.wait(MINUTE)

    room.define({})

    assert told_of(room.wait(SECOND)) == [("ops", "alert.firing", ["al_1/1"])]


def test_whoever_was_told_that_it_fires_is_told_that_it_is_over_in_a_silence_too() -> None:
    room = Room()
    room.hear(alert_record())
    room.wait(WAIT)
    room.define({"si_1": silence()})

    room.hear(alert_record(transition=2, state="resolved"))

    assert told_of(room.wait(MINUTE)) == [("ops", "alert.resolved", ["al_1/2"])]


def test_of_an_acknowledged_alert_only_the_end_is_told() -> None:
    room = Room()
    room.hear(alert_record())
    room.wait(WAIT)
    room.define({"ack_al_1": acknowledgement()})
    room.hear(alert_record(transition=2))

    assert room.wait(5 * HOUR) == []
    room.hear(alert_record(transition=3, state="resolved"))

    assert told_of(room.wait(MINUTE)) == [("ops", "alert.resolved", ["al_1/3"])]
    assert room.decisions("al_1/2") == ["acknowledged"]


def test_who_acknowledged_before_it_was_told_is_told_the_end() -> None:
    room = Room()
    room.define({"ack_al_1": acknowledgement()})
    room.hear(alert_record())
    room.wait(MINUTE)

    room.hear(alert_record(transition=2, state="resolved"))

    assert told_of(room.wait(MINUTE)) == [("ops", "alert.resolved", ["al_1/2"])]


def test_an_effect_is_told_when_its_cause_is_over() -> None:
    room = Room(rules=(rule_of("slow"), rule_of("down", inhibits=["slow"])))
    room.hear(alert_record("al_effect"))
    room.wait(100_000)
    room.hear(alert_record("al_cause", rule="down"))

    assert told_of(room.wait(MINUTE)) == [("ops", "alert.firing", ["al_cause/1"])]
    assert room.decisions("al_effect/1") == ["inhibited"]
    room.hear(alert_record("al_cause", 2, "resolved", rule="down"))

    assert ("ops", "alert.firing", ["al_effect/1"]) in told_of(room.wait(MINUTE))


def test_inhibition_survives_a_restart() -> None:
    room = Room(rules=(rule_of("slow"), rule_of("down", inhibits=["slow"])))
    room.hear(alert_record("al_cause", rule="down"))
    room.wait(WAIT)
    commit = room.notifier.settle()

    room.notifier, _ = Notifier.restore(Terms(), {**commit.parts, **commit.head})
    room.define()
    room.hear(alert_record("al_effect"))

    assert room.wait(MINUTE) == []
    assert room.decisions("al_effect/1") == ["inhibited"]


def test_quiet_hours_put_off_what_still_fires_at_their_end() -> None:
    quiet = {"quiet_hours": [{"start": "22:00", "end": "23:00"}]}
    room = Room(rules=(rule_of("slow", **quiet),))
    room.hear(alert_record("al_1"), alert_record("al_2"))
    room.wait(MINUTE)
    room.hear(alert_record("al_2", 2, "resolved"))

    assert room.wait(40 * MINUTE) == []

    assert told_of(room.wait(20 * MINUTE)) == [("ops", "alert.firing", ["al_1/1"])]
    assert room.decisions("al_1/1") == ["quiet", "notified"]
    assert room.decisions("al_2/2") == ["quiet"]


def test_an_end_in_quiet_hours_is_told_after_them() -> None:
    room = Room(rules=(rule_of("slow", quiet_hours=[{"start": "22:30", "end": "23:00"}]),))
    room.hear(alert_record())
    room.wait(20 * MINUTE)
    room.hear(alert_record(transition=2, state="resolved"))

    assert room.wait(20 * MINUTE) == []

    assert told_of(room.wait(10 * MINUTE)) == [("ops", "alert.resolved", ["al_1/2"])]


def test_what_still_fires_is_told_again_after_the_repeat_interval() -> None:
    room = Room(rules=(rule_of(repeat_interval="1h"),))
    room.hear(alert_record("al_1"))
    room.wait(WAIT)
    room.hear(alert_record("al_2"))
    room.wait(MINUTE)

    reminders = room.wait(2 * HOUR)

    assert told_of(reminders) == [("ops", "alert.reminder", ["al_1/1", "al_2/1"])] * 2
    assert len({each["notification_id"] for each in room.told}) == len(room.told)


def test_nobody_is_reminded_of_what_is_held_back_or_of_a_watchdog() -> None:
    room = Room(rules=(rule_of(repeat_interval="1h"),))
    room.hear(alert_record("al_1"), alert_record("al_2", kind="watchdog"))
    room.wait(WAIT)

    room.define({"ack_al_1": acknowledgement()})

    assert room.wait(3 * HOUR) == []


def test_subscriptions_say_who_is_told_what() -> None:
    room = Room(
        endpoint_of("critical", subscriptions=[{"types": ["alert.*"], "severities": ["critical"]}]),
        endpoint_of("search", subscriptions=[{"types": ["alert.firing"], "labels": {"team": "sea*"}}]),
        endpoint_of("ends", subscriptions=[{"types": ["alert.resolved"], "rules": ["slow"]}]),
        endpoint_of(
            "o3", subscriptions=[{"types": ["*"], "filters": [{"property": "group.model", "value": "o3"}]}]
        ),
        endpoint_of("parked", enabled=False, disabled_because="410"),
    )

    room.hear(alert_record(group={"provider": "openai", "model": "o3"}))
    fired = room.wait(WAIT)
    room.hear(alert_record(transition=2, state="resolved", group={"provider": "openai", "model": "o3"}))
    resolved = room.wait(MINUTE)

    assert {each["endpoint_id"] for each in fired} == {"search", "o3", "parked"}
    assert {each["endpoint_id"] for each in resolved} == {"ends", "o3", "parked"}


def test_who_was_told_is_told_the_end_though_the_rule_has_changed_meanwhile() -> None:
    room = Room(endpoint_of("errors", subscriptions=[{"types": ["alert.*"], "severities": ["error"]}]))
    room.hear(alert_record())
    room.wait(WAIT)

    room.hear(alert_record(transition=2, state="resolved", severity="info", rule_revision=2))

    assert told_of(room.wait(MINUTE)) == [("errors", "alert.resolved", ["al_1/2"])]


def test_what_nobody_subscribes_to_is_unmatched() -> None:
    room = Room(endpoint_of("critical", subscriptions=[{"types": ["*"], "severities": ["critical"]}]))

    room.hear(alert_record(), alert_record(transition=2, state="resolved"))
    room.wait(MINUTE)

    assert room.decisions("al_1/1") == room.decisions("al_1/2") == ["unmatched"]
    assert room.notifier.open_alerts == 0


def test_who_came_later_is_not_told_the_end_of_what_it_never_heard_of() -> None:
    room = Room(endpoint_of("ops"))
    room.hear(alert_record())
    room.wait(WAIT)
    room.define(endpoints=(endpoint_of("ops"), endpoint_of("late")))

    room.hear(alert_record(transition=2, state="resolved"))
    room.wait(MINUTE)

    assert told_of(room.told)[1:] == [("ops", "alert.resolved", ["al_1/2"])]
    assert sorted(room.decisions("al_1/2")) == ["notified", "unmatched"]


def test_an_endpoint_that_is_deleted_before_it_is_told_is_not_told() -> None:
    room = Room(endpoint_of("ops"), endpoint_of("gone"))
    room.hear(alert_record())

    room.define(endpoints=(endpoint_of("ops"),))

    assert told_of(room.wait(WAIT)) == [("ops", "alert.firing", ["al_1/1"])]
    assert sorted(room.decisions("al_1/1")) == ["notified", "unmatched"]


def test_pending_alerts_and_corrections_are_nobodys_news() -> None:
    room = Room()
    room.hear(alert_record(state="pending"))
    assert room.wait(MINUTE) == []

    room.hear(alert_record(transition=2))
    room.wait(WAIT)
    room.hear(alert_record(transition=2, revision=1, value=6100.0))
    assert room.wait(MINUTE) == []

    reminder = room.wait(4 * HOUR)[0]
    assert json.loads(reminder["body"])["data"]["alerts"][0]["value"] == 6100.0


def test_a_transition_that_is_told_again_by_the_judge_is_the_same() -> None:
    room = Room()
    fired, resolved = alert_record(), alert_record(transition=2, state="resolved")
    room.hear(fired)
    room.wait(WAIT)
    room.hear(fired, resolved)
    room.wait(MINUTE)

    room.hear(fired, resolved)
    room.wait(6 * HOUR)

    assert len(room.told) == 2
