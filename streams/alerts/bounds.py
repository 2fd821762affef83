"""What the figures of a rule are held to when it is read."""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationInfo

from schemas.time import MINUTE, Micros
from streams.alerts.durations import write_duration
from streams.alerts.errors import FieldError
from streams.alerts.measures import measure
from streams.alerts.pane_series import PANES
from streams.alerts.units import Unit

LONGEST_WINDOW: Final[Mapping[str, Micros]] = {"1s": 10 * MINUTE, "1m": 100 * MINUTE}
"""Closed panes are kept for two hours, those of a second for a quarter of one."""
SECOND_GROUPINGS: Final = ("total", "service")
"""Those that have panes of a second."""


def unit_of(info: ValidationInfo) -> Unit | None:
    """The unit of the metric, when both metric and aggregation are right."""
    if not {"metric", "aggregation"} <= info.data.keys():
        return None
    return measure(info.data["metric"]).unit(info.data["aggregation"])


def above_zero(written: object, unit: Unit | None) -> float:
    if unit is None:
        return 1.0
    value = unit.parse(written)
    if value <= 0:
        raise FieldError("this must be over 0", unit.right)
    return value


def signed(value: float, unit: Unit, info: ValidationInfo) -> float:
    """A distance whose sign says which way, as the operator does."""
    falls = info.data.get("operator", ">").startswith("<")
    if value == 0 or falls == (value > 0):
        up, down = (unit.write(sign * (abs(value) or 1)) for sign in (1, -1))
        raise FieldError(
            f"{unit.write(value)} doesn't go with {info.data.get('operator', '>')}",
            f"write {up} with > for a rise, {down} with < for a fall",
        )
    return value


def whole_panes(window: Micros, pane: str) -> Micros:
    length, longest = PANES[pane], LONGEST_WINDOW[pane]
    written = write_duration(window)
    if window % length or not window:
        hint = ", or choose pane 1s" if pane == "1m" else ""
        raise FieldError(
            f"{written} is no whole number of panes of {pane}", f"write a multiple of {pane}{hint}"
        )
    if window > longest:
        raise FieldError(f"{written} is too long for panes of {pane}", f"at most {write_duration(longest)}")
    return window


def within(span: Micros, least: Micros, most: Micros) -> Micros:
    if not least <= span <= most:
        raise FieldError(
            f"{write_duration(span)} is out of bounds",
            f"write {write_duration(least)} to {write_duration(most)}",
        )
    return span
