"""What the figures of a rule are held to when it is read."""

from pydantic import ValidationInfo

from schemas.time import Micros
from streams.alerts.durations import write_duration
from streams.alerts.errors import FieldError
from streams.alerts.measures import measure
from streams.alerts.units import Unit
from streams.catalogue.panes import JUDGED


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
    length, longest = JUDGED[pane].length, JUDGED[pane].longest_judged
    written = write_duration(window)
    if window % length or not window:
        finer = [name for name, each in JUDGED.items() if each.length < length]
        hint = f", or choose pane {finer[-1]}" if finer else ""
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
