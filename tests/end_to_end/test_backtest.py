"""A real hour of traffic, judged as it comes and again from history: the same alerts, at the same times."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ClickHouseSettings
from schemas.codec import Codec
from schemas.contract import schema
from tests.end_to_end.parts import Parts
from tests.streams.broker import Broker, wait_until

pytestmark = pytest.mark.timeout(600)

PARTITIONS = 4
ALERT = Codec(schema("Alert"))
DECISION = Codec(schema("Decision"))
RULES = """
rules:
  - id: many-requests
    name: Many requests
    kind: threshold
    severity: warning
    metric: requests
    aggregation: rate
    grouping: total
    window: 1m
    operator: ">"
    threshold: 6/s
    consecutive: 1

  - id: long-prompts
    name: Long prompts
    kind: threshold
    severity: info
    metric: prompt_tokens
    aggregation: avg
    grouping: service
    window: 5m
    operator: ">"
    threshold: 1150 tokens
    consecutive: 2
    minimum_requests: 100
"""


@pytest.fixture
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


@pytest.fixture
def parts(broker: Broker, database: ClickHouseSettings, tmp_path: Path) -> Parts:
    """They still raise alerts on what occurred an hour ago."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "trace.yaml").write_text(RULES)
    settings = {"CHATGAUGE_ALERTS_RULES": str(rules), "CHATGAUGE_ALERTS_TOO_LATE": "PT6H"}
    return Parts.of(tmp_path, broker.bootstrap, PARTITIONS, database, **settings)


def test_a_backtest_gives_the_alerts_that_were_raised_live(
    broker: Broker, parts: Parts, shared_data: Path
) -> None:
    trace = shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"
    said = parts.run("replay", trace, "--speed", "max", "--shift-to", "now")
    assert "sent 19,366 messages" in said
    sent = datetime.now(UTC)
    end = sent.replace(second=0, microsecond=0)
    start = end - timedelta(minutes=65)

    # They find an hour of live traffic waiting, and work it off in the order of its own time.
    with parts.worker("rollup"), parts.worker("alerts"), parts.sink():
        wait_until("the trace is judged", lambda: judged_until(broker) >= end)
        for topic in ("chat.requests", "chat.windows"):
            broker.wait_until_acknowledged(f"chatgauge-sink-{topic}", topic)

        for rule in ("many-requests", "long-prompts"):
            live = [alert for alert in transitions(broker, rule) if alert["changed_at"] <= end]
            span = ("--from", start.isoformat(), "--to", end.isoformat())
            tested = json.loads(parts.run("backtest", rule, *span, "--include", "live", "--json"))["alerts"]

            assert len(live) > 2, "the trace has something to tell"
            assert [told(each) for each in tested] == [told(each) for each in live]


def judged_until(broker: Broker) -> datetime:
    """The end of the last minute that was judged."""
    decisions = [DECISION.decode(record.value or b"") for record in broker.records("chat.decisions")]
    ends = [decision["pane_end"] for decision in decisions if decision["what"] == "evaluated"]
    return max(ends, default=datetime.fromtimestamp(0, UTC))


def transitions(broker: Broker, rule: str) -> list[dict[str, Any]]:
    """What was told of a rule, each transition once, in their order."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for record in broker.records("chat.alerts"):
        assert record.value is not None
        alert = ALERT.decode(record.value)
        if alert["rule_id"] == rule and not alert["revision"]:
            found.setdefault((alert["alert_id"], alert["transition"]), alert)
    return sorted(found.values(), key=lambda alert: (alert["changed_at"], alert["group"]))


def told(alert: dict[str, Any]) -> tuple[Any, ...]:
    """What both must agree in."""
    at = alert["changed_at"]
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    return (alert["alert_id"], alert["transition"], alert["state"], at, alert["value"])
