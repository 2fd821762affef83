"""Rules come from files: those that are right hold, those that are wrong are told with their line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.time import MINUTE
from streams.alerts.kinds.absence import AbsenceRule
from streams.alerts.kinds.budget import BudgetRule
from streams.alerts.kinds.threshold import ThresholdRule
from streams.alerts.measures import AGGREGATIONS
from streams.alerts.provisioning import (
    SHIPPED,
    Change,
    Provisioned,
    difference,
    read_rules,
    read_texts,
)
from streams.alerts.rule import dumped, parse_rule
from tests.streams.alerts.rules import BUDGET, THRESHOLD

GOOD = """\
rules:
  - id: slow
    name: Slow answers
    kind: threshold
    severity: warning
    metric: latency
    window: 5m
    operator: ">"
    threshold: 5 s
"""
BAD = """\
rules:
  - id: slow
    name: Slow answers
    kind: threshold
    severity: warning
    metric: latency
    window: 5
    threshold: 5 %
  - id: failing
    name: Failures
    kind: threshold
    severity: error
    metric: errors
    window: 5m
    threshold: 10 %
"""


@dataclass(frozen=True)
class Defined:
    definition: dict[str, Any]
    provisioned: bool = True


def told(*texts: tuple[str, str], shipped: str = "") -> list[str]:
    return [str(problem) for problem in read_texts(texts, shipped).problems]


def test_rules_are_read_from_files() -> None:
    reading = read_texts([("slow.yaml", GOOD)])
    assert reading.rules.keys() == {"slow"}
    held = reading.rules["slow"]
    assert (held.file, held.line) == ("slow.yaml", 2)
    assert isinstance(held.rule, ThresholdRule)
    assert (held.rule.window, held.rule.threshold) == (5 * MINUTE, 5000.0)
    assert (reading.problems, reading.refused, reading.whole) == ((), frozenset(), True)


def test_a_wrong_rule_is_told_with_file_line_and_place_and_the_others_hold() -> None:
    reading = read_texts([("team/rules.yaml", BAD)])
    assert reading.rules.keys() == {"failing"}
    assert reading.refused == {"slow"}
    assert reading.whole
    assert [str(problem) for problem in reading.problems] == [
        "team/rules.yaml:7:5: slow: rules[0].window: 5 has no unit; write a duration with its unit, such as "
        "90s, 5m, 1h30m or 7d",
        "team/rules.yaml:8:5: slow: rules[0].threshold: '5 %': '%' is no unit of this figure; write it as in "
        "200 ms or 5 s",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules:\n  - id: x\n    kind: tresh\n", "a.yaml:3:5: x: rules[0].kind: there is no kind 'tresh'"),
        ("rules:\n  - kind: watchdog\n    name: W\n", "a.yaml:2:5: rules[0].id: is missing"),
        ("rules:\n\n  - 5\n", "a.yaml:3:5: rules[0]: this is no rule; write its fields as a mapping"),
        (
            "rules:\n  - {id: x, kind: watchdog, name: W,\n     lables: {}}\n",
            "a.yaml:3:6: x: rules[0].lables: there is no such field; did you mean labels?",
        ),
        ("rule: []\n", "a.yaml:1:1: rule: there is no such field; did you mean rules?"),
        ("- id: x\n", "a.yaml:1:1: there are no rules here; begin with rules:"),
        ("rules: {}\n", "a.yaml:1:1: rules: this is no list; begin each rule with a dash"),
        ("rules: [{id: [}\n", "a.yaml:1:15: while parsing a flow node expected the node content"),
        ("rules:\n  - id: x\n    id: y\n", "a.yaml:3:5: 'id' is there twice"),
        ("rules:\n  - id: x\n    operator: >=\n", "put the operator into quotes, as in operator: '>='"),
        ("rules: !!python/object:os.system []\n", "could not determine a constructor"),
        ("a: \x00\n", "this is no YAML: unacceptable character"),
        ("rules: " + "[" * 5_000, "this is no YAML: maximum recursion depth exceeded"),
        ("rules: &a [*a]\n", "a.yaml:1:8: rules[0]: this is no rule"),
        (
            "rules:\n  - {id: x, kind: watchdog, name: W, labels: &l {a: *l}}\n",
            "rules[0].labels.a: should be",
        ),
        ("rules:\n  - {id: x, kind: watchdog, name: W, 5: a}\n", "x: rules[0][5]: Keys should be strings"),
        ("rules:\n  - {id: x, kind: watchdog, name: W, [a]: a}\n", "found unhashable key"),
        (
            "rules:\n  - {id: 5, kind: watchdog, name: W}\n",
            "a.yaml:2:6: rules[0].id: should be a valid string",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_line(text: str, expected: str) -> None:
    (problem,) = told(("a.yaml", text))
    assert expected in problem
    assert problem.startswith("a.yaml")


def test_an_operator_that_yaml_took_for_a_block_is_told() -> None:
    text = GOOD.replace('operator: ">"', "operator: >")
    assert told(("a.yaml", text)) == [
        "a.yaml:8:5: slow: rules[0].operator: there is no operator here; in YAML > and < need quotes; or "
        "write above or below"
    ]


def test_yaml_is_not_too_clever() -> None:
    text = """\
rules:
  - id: dog
    name: on
    kind: watchdog
    labels: {country: no, version: "1.10", day: 2026-05-04}
    quiet_hours: [{start: 22:00, end: 07:00}]
"""
    reading = read_texts([("a.yaml", text)])
    assert reading.problems == ()
    rule = reading.rules["dog"].rule
    assert rule.name == "on"
    assert rule.labels == {"country": "no", "version": "1.10", "day": "2026-05-04"}
    assert (rule.quiet_hours[0].start, rule.quiet_hours[0].end) == ("22:00", "07:00")


def test_anchors_and_merges_say_once_what_rules_share() -> None:
    text = """\
rules:
  - &slow
    id: slow
    name: Slow
    kind: threshold
    severity: warning
    metric: latency
    window: 5m
    threshold: 5 s
  - <<: *slow
    id: slower
    threshold: 20 s
    severity: fatal
"""
    reading = read_texts([("a.yaml", text)])
    assert reading.rules.keys() == {"slow"}
    assert told(("a.yaml", text)) == [
        "a.yaml:13:5: slower: rules[1].severity: 'fatal' is none of its values; there are info, warning, "
        "error, critical"
    ]
    assert read_texts([("a.yaml", text.replace("fatal", "error"))]).rules.keys() == {"slow", "slower"}


def test_yaml_that_grows_beyond_measure_is_refused_soon() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    text = f"a0: &a0 [x]\n{levels}rules:\n  - id: x\n    kind: watchdog\n    name: *a29\n    severity: *a29\n"
    reading = read_texts([("a.yaml", text)])
    assert "x" in reading.refused
    assert all(len(str(problem)) < 1_000 for problem in reading.problems)


def test_an_id_is_given_once() -> None:
    reading = read_texts([("a.yaml", GOOD), ("b.yaml", GOOD.replace("5 s", "9 s"))])
    assert [str(problem) for problem in reading.problems] == [
        "b.yaml:2:5: slow: rules[0].id: a.yaml:2 has a rule of this id; choose another id"
    ]
    assert reading.rules["slow"].rule == read_texts([("a.yaml", GOOD)]).rules["slow"].rule


def test_a_shipped_rule_is_changed_by_naming_what_shall_differ() -> None:
    own = "rules:\n  - id: token-budget\n    enabled: true\n    limit: 20M tokens\n    grouping: user\n"
    reading = read_texts([("own.yaml", own)], SHIPPED.read_text())
    assert reading.problems == ()
    rule, default = (each.rules["token-budget"].rule for each in (reading, read_rules(None)))
    assert isinstance(rule, BudgetRule)
    assert rule == default.model_copy(update={"enabled": True, "limit": 2e7, "grouping": "user"})
    assert reading.rules["token-budget"].file == "own.yaml"
    assert reading.rules.keys() == read_rules(None).rules.keys()


def test_a_shipped_rule_is_replaced_by_one_of_another_kind() -> None:
    own = "rules:\n  - {id: no-data, kind: watchdog, name: Mine}\n"
    rule = read_texts([("own.yaml", own)], SHIPPED.read_text()).rules["no-data"].rule
    assert rule == parse_rule({"id": "no-data", "kind": "watchdog", "name": "Mine"})


def test_a_wrong_change_of_a_shipped_rule_is_told_where_it_was_written() -> None:
    own = "rules:\n  - id: token-budget\n    enabled: true\n    limit: 20 USD\n"
    reading = read_texts([("own.yaml", own)], SHIPPED.read_text())
    assert [str(problem) for problem in reading.problems] == [
        "own.yaml:4:5: token-budget: rules[0].limit: '20 USD': 'USD' is no unit of this figure; write it as "
        "in 500k tokens or 2M tokens"
    ]
    assert "token-budget" in reading.refused
    assert "token-budget" not in reading.rules


def test_a_folder_is_read_with_those_below_and_without_what_is_hidden(tmp_path: Path) -> None:
    for name, id_ in (("b.yml", "b"), ("team/a.yaml", "a"), (".hidden/c.yaml", "c"), ("d.txt", "d")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GOOD.replace("id: slow", f"id: {id_}"))
    reading = read_rules(tmp_path, shipped=False)
    assert reading.problems == ()
    assert {id_: held.file for id_, held in reading.rules.items()} == {
        "a": str(tmp_path / "team/a.yaml"),
        "b": str(tmp_path / "b.yml"),
    }
    assert read_rules(tmp_path).rules.keys() == {"a", "b", *read_rules(None).rules}


def test_what_cannot_be_read_is_told_and_takes_nothing_back(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "latin.yaml").write_bytes(b"rules: \xff")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"##")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    reading = read_rules(tmp_path, shipped=False)
    assert reading.rules.keys() == {"slow"}
    assert not reading.whole
    names = {Path(problem.file).name: str(problem) for problem in reading.problems}
    assert names.keys() == {"latin.yaml", "large.yaml", "gone.yaml"}
    assert "it is larger than 1 MiB" in names["large.yaml"]
    missing = read_rules(tmp_path / "not-there")
    assert "there is no such folder" in str(missing.problems[0])
    assert (missing.whole, missing.rules.keys()) == (False, read_rules(None).rules.keys())


def test_an_empty_file_has_no_rules() -> None:
    for text in ("", "# nothing\n", "rules:\n", "rules: []\n"):
        reading = read_texts([("a.yaml", text)])
        assert (reading.rules, reading.problems, reading.whole) == ({}, (), True)


def present(*written: dict[str, Any], provisioned: bool = True) -> dict[str, Defined]:
    return {each["id"]: Defined(dumped(parse_rule(each)), provisioned) for each in written}


def test_what_is_new_changed_or_gone_is_told_and_nothing_else() -> None:
    reading = read_texts([("a.yaml", GOOD)])
    slow = Change("slow", dumped(reading.rules["slow"].rule))
    assert difference(reading, {}).changes == (slow,)
    same = {"slow": Defined(dumped(reading.rules["slow"].rule))}
    assert difference(reading, same).changes == ()
    other = {"slow": Defined(dumped(reading.rules["slow"].rule) | {"threshold": "6 s"})}
    assert difference(reading, other).changes == (slow,)
    gone = difference(reading, same | present(THRESHOLD, BUDGET))
    assert gone.changes == (Change("budget", None), Change("error-rate", None))


def test_a_definition_that_says_the_same_in_other_words_is_left_alone() -> None:
    reading = read_texts([("a.yaml", GOOD)])
    few = {"slow": Defined({k: v for k, v in dumped(reading.rules["slow"].rule).items() if k != "labels"})}
    assert difference(reading, few).changes == ()
    unreadable = {"slow": Defined({"id": "slow"})}
    assert [change.id for change in difference(reading, unreadable).changes] == ["slow"]


def test_what_was_made_through_the_api_is_left_alone() -> None:
    reading = read_texts([("a.yaml", GOOD)])
    mine = present(THRESHOLD, provisioned=False)
    assert [change.id for change in difference(reading, mine).changes] == ["slow"]
    taken = {"slow": Defined(dumped(reading.rules["slow"].rule), provisioned=False)}
    found = difference(reading, taken)
    assert found.changes == ()
    assert [str(problem) for problem in found.problems] == [
        "a.yaml:2: slow: id: a rule with this id was made through the API; delete that, or choose another id"
    ]


def test_a_refused_rule_stays_as_it_was() -> None:
    before = read_texts([("a.yaml", GOOD)])
    present = {"slow": Defined(dumped(before.rules["slow"].rule))}
    assert [change.id for change in difference(read_texts([("a.yaml", BAD)]), present).changes] == ["failing"]


@pytest.mark.parametrize("text", ["rules: [", "rules:\n  - kind: watchdog\n", "rule: []\n", "rules: 5\n"])
def test_nothing_is_taken_back_while_it_is_unknown_whose_rule_is_wrong(text: str) -> None:
    reading = read_texts([("a.yaml", text)])
    assert not reading.whole
    assert difference(reading, present(THRESHOLD, BUDGET)).changes == ()


def test_what_was_told_is_what_the_files_say() -> None:
    """Told once, nothing is left to be told; whatever was there before."""
    reading = read_rules(None)
    there = present(THRESHOLD, BUDGET) | {"no-data": Defined({"id": "no-data", "kind": "gone"})}
    for change in difference(reading, there).changes:
        if change.definition is None:
            del there[change.id]
        else:
            there[change.id] = Defined(change.definition)
    assert there.keys() == reading.rules.keys()
    assert difference(reading, there).changes == ()


@pytest.fixture(scope="module")
def shipped() -> dict[str, Provisioned]:
    reading = read_rules(None)
    assert reading.problems == ()
    return dict(reading.rules)


def test_the_shipped_rules_are_these(shipped: dict[str, Provisioned]) -> None:
    assert {id_: (held.rule.kind, held.rule.enabled) for id_, held in shipped.items()} == {
        "error-rate": ("threshold", True),
        "slow-answers": ("threshold", True),
        "token-budget": ("budget", False),
        "over-capacity": ("capacity", False),
        "cache-collapse": ("change", True),
        "no-data": ("absence", True),
        "circuit-breaker-open": ("threshold", True),
        "watchdog": ("watchdog", False),
    }


def test_the_shipped_rules_say_nothing_of_a_few_requests(shipped: dict[str, Provisioned]) -> None:
    for held in shipped.values():
        rule = held.rule
        assert rule.description
        if rule.enabled and not rule.metric.startswith("sample:"):
            assert rule.minimum_requests >= 50
        if isinstance(rule, AbsenceRule):
            continue
        assert rule.aggregation in AGGREGATIONS
