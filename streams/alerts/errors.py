"""What can be wrong with what a person has set up.

AlertError
├── FieldError            one field of a rule: says what is wrong and what would be right
│   ├── UnitError           a figure that can't be read: no unit, a wrong one, or no number
│   └── UnknownMetricError  no metric of that name
├── RuleError             a rule that is refused; carries a Fault for each thing that is wrong
└── ProvisioningError     a file of rules that can't be read at all
"""

from collections.abc import Sequence
from dataclasses import dataclass


class AlertError(Exception):
    """Root of the package's errors."""


class FieldError(AlertError, ValueError):
    """A field holds what it can't. `at` leads from the field that was checked to what is meant in it."""

    def __init__(self, message: str, right: str = "", *at: str | int) -> None:
        super().__init__(f"{message}; {right}" if right else message)
        self.message = message
        self.right = right
        self.at = at


class UnitError(FieldError):
    """A figure can't be read."""


class UnknownMetricError(FieldError):
    """There is no such metric."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a rule."""

    where: str
    """Which field, as `rules[3].window` or `filter.model[0]`; empty for the rule as a whole."""
    message: str
    """What is wrong with it."""
    right: str = ""
    """What would be right."""
    path: tuple[str | int, ...] = ()
    """`where`, step by step."""

    def __str__(self) -> str:
        text = f"{self.message}; {self.right}" if self.right else self.message
        return f"{self.where}: {text}" if self.where else text


class RuleError(AlertError):
    """A rule is refused."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = tuple(faults)


class ProvisioningError(AlertError):
    """A file of rules can't be read, and so none of its rules. `position`: line and column, from 1."""

    def __init__(self, message: str, position: tuple[int, int] | None = None, right: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.right = right
