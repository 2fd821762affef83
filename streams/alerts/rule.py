"""Rules as they are written, and read: JSON or YAML to a rule of its kind, and back.

Whatever carries a unit is written as people write it (`window: 5m`, `threshold: 10 %`) and held in the
unit that the field says: spans in microseconds, shares with 1 for all, figures in the metric's unit.
`dumped` gives JSON that `parse_rule` reads as the same rule.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter, ValidationError

from streams.alerts import faults
from streams.alerts.errors import RuleError
from streams.alerts.kinds import KINDS, Rule
from streams.alerts.kinds.kind import RuleBase, dumped

__all__ = ["KINDS", "RULE", "Rule", "RuleBase", "dumped", "parse_rule"]

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
