"""The fields of a budget: how much of what, in which period, and at which steps it is published."""

from typing import Annotated, ClassVar, Literal

from pydantic import StrictBool, ValidationInfo, field_serializer, field_validator

from schemas.time import DAY, HOUR, MINUTE, Micros
from streams.alerts.bounds import above_zero, within
from streams.alerts.durations import write_duration
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, Period, ShareOf, described
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.measures import Counted, measure
from streams.alerts.units import SHARE, Unit
from streams.alerts.zones import ZoneName


class BudgetTerms(GroupedRule):
    """What a budget is: its fields, and their units."""

    kind: Literal["budget"]
    limit: Annotated[float, WRITTEN] = described("What each group may use in a period: 2M tokens, 50 USD.")
    period: Period = described(
        "The calendar's day, week (from Monday) or month; or a rolling span in hours or days: 24h, 30d."
    )
    timezone: ZoneName | None = described(
        "By which calendar, as in Asia/Kolkata; the service's time zone if not given.", default=None
    )
    steps: tuple[ShareOf, ...] = described(
        "At which shares of the limit it is told, in ascending order.", default=(0.5, 0.8, 1.0, 1.2)
    )
    tell_reset: StrictBool = described(
        "Whether it is told that a period's end has resolved the alert.", default=False
    )

    aggregation: ClassVar[Literal["sum"]] = "sum"
    operator: ClassVar[Literal[">="]] = ">="
    pane: ClassVar[Literal["1m"]] = "1m"
    window: ClassVar[Micros] = MINUTE
    minimum_requests: ClassVar[int] = 0
    consecutive: ClassVar[int] = 1
    no_data: ClassVar[Literal["keep"]] = "keep"

    @property
    def measured_unit(self) -> Unit:
        """The unit of the metric, and of the limit."""
        return self.measure.unit(self.aggregation)

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the steps."""
        return SHARE

    @field_validator("metric")
    @classmethod
    def _spendable(cls, name: str) -> str:
        one = measure(name)
        if name != "cost" and not (
            isinstance(one, Counted) and (one.thing == "tokens" or name == "requests")
        ):
            raise FieldError(
                f"there is no budget of {name}", "choose tokens, cost, or another count of tokens or requests"
            )
        return name

    @field_validator("limit", mode="before")
    @classmethod
    def _in_the_metrics_unit(cls, written: object, info: ValidationInfo) -> float:
        unit = measure(info.data["metric"]).unit("sum") if "metric" in info.data else None
        return above_zero(written, unit)

    @field_validator("period")
    @classmethod
    def _possible_period(cls, period: str | Micros) -> str | Micros:
        if isinstance(period, str):
            return period
        if period % HOUR:
            raise FieldError(
                f"{write_duration(period)} are no whole hours", "write hours or days, as in 24h or 30d"
            )
        return within(period, HOUR, 35 * DAY)

    @field_validator("steps")
    @classmethod
    def _ascending(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        right = "write shares of the limit, each over the one before: [50 %, 80 %, 100 %, 120 %]"
        if not 0 < len(steps) <= 20:
            raise FieldError(f"these are {len(steps)} steps", right)
        if not all(0 < step <= 10 for step in steps):
            raise FieldError("a step is over 0 % and at most 1000 %", right)
        if list(steps) != sorted(set(steps)):
            raise FieldError("the steps don't ascend", right)
        return steps

    @field_serializer("limit", when_used="json")
    def _written_limit(self, value: float) -> str:
        return self.measured_unit.write(value)
