"""The rules that are shipped keep quiet while a small system is well, and speak when it isn't."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from streams.alerts.judge import Judge
from streams.alerts.judged import RuleVersion
from streams.alerts.provisioning import read_rules
from tests.streams.alerts.closed_panes import NOON, Topic, minute

SERVICES = ("support", "search", "shop")
Figures = dict[str, Any]
Traffic = Callable[[int, np.random.Generator], Mapping[str, Figures]]


def requests(number: int, rng: np.random.Generator, failing: float = 0.02, median_s: float = 1.2) -> Figures:
    """A minute of a service: answers of language models, of which some take long."""
    seconds = np.minimum(rng.lognormal(np.log(median_s), 0.9, number), 60)
    return {
        "requests": number,
        "errors": int(rng.binomial(number, failing)),
        "cache_hits": int(rng.binomial(number, 0.06)),
        "total_us": (seconds * 1e6).astype(int).tolist(),
    }


def healthy(at: int, rng: np.random.Generator) -> Mapping[str, Figures]:
    """A day in two hours: it rises to some 20 requests a minute, and fades away."""
    daylight = max(np.sin(np.pi * (at - 5) / 100), 0)
    found = {
        service: requests(int(rng.poisson(share * 20 * daylight)), rng)
        for service, share in zip(SERVICES, (0.6, 0.3, 0.1), strict=True)
    }
    return {service: figures for service, figures in found.items() if figures["requests"]}


def added_up(services: Iterable[Figures]) -> Figures:
    total: Figures = {}
    for figures in services:
        for name, figure in figures.items():
            total[name] = total[name] + figure if name in total else figure
    return total


def firing(minutes: int, traffic: Traffic) -> list[tuple[Any, ...]]:
    """What the shipped rules tell of the traffic: rule, group, state, minute."""
    rng = np.random.default_rng(7)
    rules = [RuleVersion(held.rule, 1) for held in read_rules(None).rules.values()]
    judge, topic = Judge(0, 1, rules), Topic()
    found, seen = [], 0
    topic.heartbeat(NOON)
    for at in range(1, minutes + 1):
        services = traffic(at, rng)
        topic.share(minute(at), services, grouping="service")
        topic.close(minute(at), {(): added_up(services.values())} if services else {})
        judged = judge.take(topic.since(seen), now=minute(at) + 10_000_000)
        seen = len(topic.records)
        found += [
            (a["rule_id"], *a["group"], a["state"], (a["changed_at"] - NOON) // 60_000_000)
            for a in judged.alerts
        ]
    return found


def test_nothing_is_told_of_a_small_system_that_is_well() -> None:
    assert firing(125, healthy) == []


def test_nothing_is_told_of_a_system_that_is_used_once_in_a_while() -> None:
    """Every third minute somebody asks something, and half of it fails."""
    told = firing(
        60, lambda at, rng: {"support": requests(1, rng, failing=0.5, median_s=9)} if at % 3 == 0 else {}
    )
    assert told == []


@pytest.mark.parametrize(
    ("trouble", "expected"),
    [
        ({"failing": 0.4}, [("error-rate", "service=support", "firing")]),
        ({"median_s": 12.0}, [("slow-answers", "service=support", "firing")]),
        (None, [("no-data", "firing")]),
    ],
)
def test_they_speak_when_something_breaks(
    trouble: dict[str, float] | None, expected: list[tuple[str, ...]]
) -> None:
    def traffic(at: int, rng: np.random.Generator) -> Mapping[str, Figures]:
        if at > 20 and trouble is None:
            return {}
        return {"support": requests(40, rng, **(trouble or {} if at > 20 else {}))}

    told = [each for each in firing(40, traffic) if "pending" not in each]
    assert [each[:-1] for each in told] == expected
    assert 20 < told[0][-1] <= 35
