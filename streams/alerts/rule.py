"""Rules: what is measured, over which window, and what it is held against. One class per kind.

Whatever carries a unit is written as people write it (`window: 5m`, `threshold: 10 %`) and held in the
unit that the field says: spans in microseconds, shares with 1 for all, figures in the metric's unit.
`dumped` gives JSON that `parse_rule` reads as the same rule.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from streams.alerts import faults
from streams.alerts.bounds import LONGEST_WINDOW, PANES, SECOND_GROUPINGS
from streams.alerts.errors import RuleError
from streams.alerts.rule_base import GroupedRule, RuleBase, WindowedRule
from streams.alerts.rule_kinds import (
    AbsenceRule,
    BaselineRule,
    BudgetRule,
    CapacityRule,
    ChangeRule,
    ThresholdRule,
    WatchdogRule,
)

__all__ = [
    "KINDS",
    "LONGEST_WINDOW",
    "PANES",
    "RULE",
    "SECOND_GROUPINGS",
    "AbsenceRule",
    "BaselineRule",
    "BudgetRule",
    "CapacityRule",
    "ChangeRule",
    "ComparingRule",
    "GroupedRule",
    "Rule",
    "RuleBase",
    "ThresholdRule",
    "WatchdogRule",
    "WindowedRule",
    "dumped",
    "parse_rule",
]

ComparingRule = ThresholdRule | BaselineRule | ChangeRule | CapacityRule
"""Those with a window, an operator and a threshold."""

Rule = Annotated[
    ThresholdRule | BaselineRule | ChangeRule | CapacityRule | BudgetRule | AbsenceRule | WatchdogRule,
    Field(discriminator="kind"),
]
KINDS: Final[Mapping[str, type[RuleBase]]] = {
    "threshold": ThresholdRule,
    "baseline": BaselineRule,
    "change": ChangeRule,
    "budget": BudgetRule,
    "capacity": CapacityRule,
    "absence": AbsenceRule,
    "watchdog": WatchdogRule,
}
RULE: Final[TypeAdapter[Rule]] = TypeAdapter(Rule)


def parse_rule(data: object, at: tuple[str | int, ...] = ()) -> Rule:
    """The rule that `data` (as from JSON or YAML) describes.

    Raises RuleError with everything that is wrong; `at` is the rule's place in what it was read from,
    such as ("rules", 3).
    """
    if not isinstance(data, Mapping):
        raise RuleError([faults.fault(at, "this is no rule", "write its fields as a mapping")])
    try:
        return RULE.validate_python(data)
    except ValidationError as error:
        raise RuleError(faults.of(error, KINDS, at)) from error


def dumped(rule: Rule) -> dict[str, Any]:
    """The rule as JSON that `parse_rule` reads as the same rule: all fields, units as people write them."""
    fields: dict[str, Any] = RULE.dump_python(rule, mode="json")
    return {"id": rule.id, "kind": rule.kind, **fields}
