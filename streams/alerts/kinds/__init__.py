"""The kinds of rules: one module each, with all that is particular to it, and the list of them.

A new kind is a class after the contract of `kind.RuleBase` (or of one that several share: `comparing`,
`referenced`, `grouped`), and an entry in the list. The schema of rules, the API, the documentation's test
and what the judge does follow from the list.
"""

from collections.abc import Mapping
from typing import Annotated, Final, get_args

from pydantic import Field

from streams.alerts.kinds.absence import AbsenceRule
from streams.alerts.kinds.baseline import BaselineRule
from streams.alerts.kinds.budget import BudgetRule
from streams.alerts.kinds.capacity import CapacityRule
from streams.alerts.kinds.change import ChangeRule
from streams.alerts.kinds.comparing import ComparingRule
from streams.alerts.kinds.kind import RuleBase
from streams.alerts.kinds.threshold import ThresholdRule
from streams.alerts.kinds.watchdog import WatchdogRule

Rule = Annotated[
    ThresholdRule | BaselineRule | ChangeRule | BudgetRule | CapacityRule | AbsenceRule | WatchdogRule,
    Field(discriminator="kind"),
]
"""A rule of any kind. This is the list: what follows is derived from it."""

_CLASSES: Final[tuple[type[RuleBase], ...]] = get_args(get_args(Rule)[0])
KINDS: Final[Mapping[str, type[RuleBase]]] = {kind.kind_name(): kind for kind in _CLASSES}
"""The kinds by name."""
KIND_NAMES: Final = " or ".join((", ".join(list(KINDS)[:-1]), list(KINDS)[-1]))
"""Their names, for descriptions: `threshold, ... or watchdog`."""

SampledRule = ComparingRule | AbsenceRule
"""Those that can be about a sampled state."""
