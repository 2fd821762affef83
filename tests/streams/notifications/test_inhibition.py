from collections.abc import Iterable

import pytest

from streams.alerts.rule import RuleBase
from streams.notifications.inhibition import Inhibition, Inhibitors
from streams.notifications.transition import Transition
from tests.streams.notifications.examples import START, alert_record, rule_of


def heard(alert_id: str, rule: str, at: int = START, **group: str) -> Transition:
    return Transition.of(alert_record(alert_id, rule=rule, at=at, group=group))


def inhibition(rules: Iterable[RuleBase], firing: Iterable[Transition]) -> Inhibition:
    by_rule: dict[str, dict[str, Transition]] = {}
    for each in firing:
        by_rule.setdefault(each.rule_id, {})[each.alert_id] = each
    return Inhibition(Inhibitors({rule.id: rule for rule in rules}), by_rule)


@pytest.mark.parametrize(
    ("cause", "effect", "inhibited"),
    [
        ({}, {}, True),
        ({}, {"model": "m"}, True),
        ({"model": "m"}, {"model": "m"}, True),
        ({"model": "m"}, {"model": "other"}, False),
        ({"model": "m"}, {}, False),
        ({"model": "m"}, {"space_id": "s"}, False),
        ({"provider": "p"}, {"provider": "p", "model": "m"}, True),
    ],
)
def test_a_group_explains_itself_and_what_is_within_it(
    cause: dict[str, str], effect: dict[str, str], inhibited: bool
) -> None:
    rules = [rule_of("down", inhibits=["slow"]), rule_of("slow")]
    firing = [heard("al_cause", "down", **cause)]

    by = inhibition(rules, firing).of(heard("al_effect", "slow", **effect))

    assert (by is not None) is inhibited


def test_it_may_be_said_from_either_side_and_with_wildcards() -> None:
    effect = heard("al_effect", "slow-search")
    cause = heard("al_cause", "down")

    one = inhibition([rule_of("down", inhibits=["slow-*"]), rule_of("slow-search")], [cause])
    other = inhibition([rule_of("down"), rule_of("slow-search", inhibited_by=["do*"])], [cause])

    assert one.of(effect) == other.of(effect) == cause


def test_what_does_not_fire_inhibits_nothing() -> None:
    rules = [rule_of("down", inhibits=["slow"]), rule_of("slow")]

    assert inhibition(rules, []).of(heard("al_effect", "slow")) is None


def test_of_rules_that_inhibit_each_other_the_first_alert_is_told() -> None:
    rules = [rule_of("a", inhibits=["b"]), rule_of("b", inhibits=["c"]), rule_of("c", inhibits=["a"])]
    alerts = [heard("al_a", "a", START + 2), heard("al_b", "b", START + 1), heard("al_c", "c", START + 3)]

    inhibited = {alert.alert_id: inhibition(rules, alerts).of(alert) for alert in alerts}

    assert inhibited["al_b"] is None
    assert inhibited["al_c"] == alerts[1]
    assert inhibited["al_a"] is None  # c, which began later, explains nothing that began before it


def test_an_alert_does_not_inhibit_itself() -> None:
    alone = heard("al_1", "slow")

    assert inhibition([rule_of("slow", inhibits=["*"])], [alone]).of(alone) is None
