"""Rules of kind threshold: the value of a window is over, or under, a figure."""

from typing import Annotated, Literal

import polars as pl
from pydantic import ValidationInfo, field_serializer, field_validator

from streams.alerts.bounds import unit_of
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, described
from streams.alerts.kinds.comparing import ComparingRule
from streams.alerts.kinds.comparison import Comparison, Floats
from streams.alerts.measures import SAMPLE_PREFIX
from streams.alerts.units import SHARE, Unit


class ThresholdRule(ComparingRule):
    """Fires when the value is over, or under, a threshold."""

    kind: Literal["threshold"]
    threshold: Annotated[float, WRITTEN] = described(
        "What the value is held against, with its unit: 10 %, 5 s, 100/s, 3 USD."
    )

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return self.measured_unit

    @property
    def stated_threshold(self) -> float:
        """The threshold."""
        return self.threshold

    def compare(self, rows: pl.DataFrame, measured: Floats, reference: pl.DataFrame | None) -> Comparison:
        """The values themselves."""
        return Comparison(measured)

    @field_validator("threshold", mode="before")
    @classmethod
    def _in_the_metrics_unit(cls, written: object, info: ValidationInfo) -> float:
        unit = unit_of(info)
        if unit is None:
            return 0.0
        value = unit.parse(written)
        if unit is SHARE and value > 1:
            raise FieldError(f"no share of requests is over {unit.write(1)}", unit.right)
        if value < 0 and not info.data["metric"].startswith(SAMPLE_PREFIX):
            raise FieldError(f"{info.data['metric']} is never under 0", unit.right)
        return value

    @field_serializer("threshold", when_used="json")
    def _written_threshold(self, value: float) -> str:
        return self.threshold_unit.write(value)
