"""Rules of kind capacity: the value of a window is over, or under, a share of what the system can take."""

from typing import Annotated, Literal

import polars as pl
from pydantic import ValidationInfo, field_serializer, field_validator

from streams.alerts.bounds import above_zero, unit_of
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, ShareOf, described
from streams.alerts.kinds.comparing import ComparingRule
from streams.alerts.kinds.comparison import Comparison, Floats
from streams.alerts.measures import measure
from streams.alerts.units import SHARE, Unit


class CapacityRule(ComparingRule):
    """Fires when the value is over (or under) a share of what the system is made for."""

    kind: Literal["capacity"]
    capacity: Annotated[float, WRITTEN] = described(
        "What each group can take, in the metric's unit: 200/s, 5000."
    )
    threshold: ShareOf = described("The share of it that the value is held against: 80 %, 150 %.")

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return SHARE

    @property
    def stated_threshold(self) -> float:
        """The threshold."""
        return self.threshold

    def compare(self, rows: pl.DataFrame, measured: Floats, reference: pl.DataFrame | None) -> Comparison:
        """The shares of the capacity."""
        return Comparison(measured / self.capacity, extra={"measured": measured})

    @field_validator("aggregation", mode="after")
    @classmethod
    def _capacity_of(cls, aggregation: str, info: ValidationInfo) -> str:
        one = measure(info.data["metric"]) if "metric" in info.data else None
        if one and (aggregation == "ratio" or one.unit(aggregation).symbol == "ms"):
            raise FieldError(
                f"there is no capacity of {one.name} as {aggregation}",
                "take a rate, a sum or a sampled state",
            )
        return aggregation

    @field_validator("capacity", mode="before")
    @classmethod
    def _in_the_metrics_unit(cls, written: object, info: ValidationInfo) -> float:
        return above_zero(written, unit_of(info))

    @field_validator("threshold")
    @classmethod
    def _positive(cls, share: float) -> float:
        if share <= 0:
            raise FieldError("a share of capacity is over 0", "write it as in 80 % or 150 %")
        return share

    @field_serializer("capacity", when_used="json")
    def _written_capacity(self, value: float) -> str:
        return self.measured_unit.write(value)
