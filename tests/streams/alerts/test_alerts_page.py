"""The page about rules says what is so: its examples are rules, its tables are whole."""

import re
from pathlib import Path

import pytest

from schemas.contract import schema
from streams.alerts.kinds import KIND_NAMES, KINDS
from streams.alerts.measures import GROUPING_KEYS, MEASURES, measure
from streams.alerts.provisioning import SHIPPED, read_rules, read_texts

PAGE = (Path(__file__).parents[3] / "docs/alerts.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def rows(first: str) -> dict[str, str]:
    """The rows of the table whose first cell is `first`, by their first cells."""
    table = PAGE[PAGE.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    return {line.split("|")[1].strip(): line for line in table}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_of_rules_that_hold(number: int) -> None:
    reading = read_texts([("page.yaml", EXAMPLES[number])], SHIPPED.read_text(encoding="utf-8"))
    assert reading.problems == ()
    assert any(held.file == "page.yaml" for held in reading.rules.values())


def test_every_kind_has_an_example() -> None:
    reading = read_texts([(f"{n}.yaml", example) for n, example in enumerate(EXAMPLES)], "")
    assert {held.rule.kind for held in reading.rules.values()} == KINDS.keys()


def test_the_contract_names_every_kind() -> None:
    assert schema("Alert").fields["kind"]["doc"] == f"{KIND_NAMES}."


def test_the_mistakes_shown_are_told_so() -> None:
    wrong = EXAMPLES[0].replace("window: 5m", "window: 5").replace("threshold: 8 s", "threshold: 8 %")
    told = [str(problem) for problem in read_texts([("rules/support.yaml", wrong)]).problems]
    assert len(told) == 2
    assert all(f"    {line}\n" in PAGE for line in told)


def test_every_field_is_on_the_page() -> None:
    fields = {name for model in KINDS.values() for name in model.model_fields}
    assert {name for name in fields if f"`{name}`" not in PAGE} == set()


def test_every_metric_is_on_the_page_with_its_aggregations() -> None:
    listed = {
        name: re.findall(r"`(\w+)`", line.split("|")[3])
        for cell, line in rows("metric").items()
        for name in re.findall(r"`([\w:<>]+)`", cell)
    }
    known = {name: list(one.aggregations) for name, one in MEASURES.items()}
    assert listed == known | {"sample:<name>": list(measure("sample:x").aggregations)}


def test_every_grouping_is_on_the_page_with_its_keys() -> None:
    listed = {
        cell.strip("`"): tuple(re.findall(r"`(\w+)`", line.split("|")[2]))
        for cell, line in rows("grouping").items()
    }
    assert listed == GROUPING_KEYS


def test_the_shipped_rules_are_on_the_page() -> None:
    listed = {cell.strip("`"): "**disabled**" not in line for cell, line in rows("id").items()}
    assert listed == {id_: held.rule.enabled for id_, held in read_rules(None).rules.items()}
