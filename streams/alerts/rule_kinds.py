"""The kinds of rules: what each fires at, and what it needs to be told."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import StrictBool, StrictInt, ValidationInfo, field_serializer, field_validator

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.bounds import above_zero, signed, unit_of, whole_panes, within
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, Duration, Period, Severity, ShareOf, said
from streams.alerts.measures import SAMPLE_PREFIX, Counted, measure
from streams.alerts.rule_base import GroupedRule, RuleBase, WindowedRule
from streams.alerts.units import DEVIATIONS, SHARE, Unit, write_duration


class ThresholdRule(WindowedRule):
    """Fires when the value is over, or under, a threshold."""

    kind: Literal["threshold"]
    threshold: Annotated[float, WRITTEN] = said(
        "What the value is held against, with its unit: 10 %, 5 s, 100/s, 3 USD."
    )

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return self.measured_unit

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


class BaselineRule(WindowedRule):
    """Fires when the value is unusual for the time: z = (value - mean) / standard deviation of the same time
    of the day (or week) in the days (or weeks) before."""

    kind: Literal["baseline"]
    threshold: Annotated[float, WRITTEN] = said(
        "How many standard deviations from the mean: 3 with >, -3 with <.", default=3.0
    )
    season: Literal["day", "week"] = said(
        "After which time the traffic repeats itself: compared are the same times of day, or of the week.",
        default="week",
    )
    seasons: StrictInt = said("How many days or weeks back.", default=4, ge=1, le=60)
    around: Duration = said("How far before and after the same time a window may lie.", default=30 * MINUTE)
    minimum_samples: StrictInt = said(
        "From how many earlier windows on there is a baseline; with fewer the rule is not judged.",
        default=6,
        ge=2,
    )
    minimum_change: ShareOf = said(
        "How far from the mean the value must be in any case, as a share of the mean.", default=0.1
    )
    minimum_difference: Annotated[float, WRITTEN] = said(
        "How far from the mean the value must be in any case, in the metric's unit: 2 %, 100 ms.", default=0.0
    )

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return DEVIATIONS

    @field_validator("threshold", mode="before")
    @classmethod
    def _deviations(cls, written: object, info: ValidationInfo) -> float:
        return signed(DEVIATIONS.parse(written), DEVIATIONS, info)

    @field_validator("around")
    @classmethod
    def _bounded_around(cls, span: Micros) -> Micros:
        return within(span, MINUTE, 6 * HOUR)

    @field_validator("minimum_change")
    @classmethod
    def _positive_change(cls, share: float) -> float:
        if share < 0:
            raise FieldError("a distance is never under 0", SHARE.right)
        return share

    @field_validator("minimum_difference", mode="before")
    @classmethod
    def _difference(cls, written: object, info: ValidationInfo) -> float:
        unit = unit_of(info)
        value = 0.0 if unit is None else unit.parse(written)
        if unit is not None and value < 0:
            raise FieldError("a distance is never under 0", unit.right)
        return value

    @field_serializer("threshold", when_used="json")
    def _written_threshold(self, value: float) -> str:
        return DEVIATIONS.write(value)

    @field_serializer("minimum_difference", when_used="json")
    def _written_difference(self, value: float) -> str:
        return self.measured_unit.write(value)


class ChangeRule(WindowedRule):
    """Fires when the value has changed against the same window earlier: (value - earlier) / earlier."""

    kind: Literal["change"]
    against: Duration = said("How much earlier the window lies that it is compared with: 1h, 1d, 7d.")
    threshold: Annotated[float, WRITTEN] = said("How much it has changed: 50 % with >, -50 % with <.")

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return SHARE

    @field_validator("against")
    @classmethod
    def _earlier(cls, span: Micros, info: ValidationInfo) -> Micros:
        window = info.data.get("window", MINUTE)
        if span < window:
            raise FieldError("the two windows overlap", f"write {write_duration(window)} or more")
        if span % MINUTE:
            raise FieldError(f"{write_duration(span)} are no whole minutes", "write minutes, hours or days")
        return within(span, MINUTE, 400 * DAY)

    @field_validator("threshold", mode="before")
    @classmethod
    def _share(cls, written: object, info: ValidationInfo) -> float:
        value = signed(SHARE.parse(written), SHARE, info)
        if value <= -1:
            raise FieldError(
                "nothing falls by 100 % or more", "write less, as in -80 %, or make a rule of kind absence"
            )
        return value

    @field_serializer("threshold", when_used="json")
    def _written_threshold(self, value: float) -> str:
        return SHARE.write(value)


class CapacityRule(WindowedRule):
    """Fires when the value is over (or under) a share of what the system is made for."""

    kind: Literal["capacity"]
    capacity: Annotated[float, WRITTEN] = said("What each group can take, in the metric's unit: 200/s, 5000.")
    threshold: ShareOf = said("The share of it that the value is held against: 80 %, 150 %.")

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return SHARE

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


class BudgetRule(GroupedRule):
    """Fires when what was used since the period began reaches a step of the limit: once per period, group and
    step."""

    kind: Literal["budget"]
    limit: Annotated[float, WRITTEN] = said("What each group may use in a period: 2M tokens, 50 USD.")
    period: Period = said(
        "The calendar's day, week (from Monday) or month, in the service's time zone; or a rolling span in "
        "hours or days: 24h, 30d."
    )
    steps: tuple[ShareOf, ...] = said(
        "At which shares of the limit it is told, in ascending order.", default=(0.5, 0.8, 1.0, 1.2)
    )
    tell_reset: StrictBool = said(
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


class AbsenceRule(GroupedRule):
    """Fires when a group that had data has none any more."""

    kind: Literal["absence"]
    metric: str = said("What is missed: requests, or a sampled state (sample:<name>).", default="requests")
    window: Duration = said("For how long there was nothing: whole minutes, to 100.")
    minimum_requests: StrictInt = said(
        "How many requests the group must have had in a window of the same length, up to the last that "
        "came: a group that had fewer may well pause.",
        default=0,
        ge=0,
    )

    aggregation: ClassVar[Literal["sum"]] = "sum"
    operator: ClassVar[Literal["<="]] = "<="
    pane: ClassVar[Literal["1m"]] = "1m"
    consecutive: ClassVar[int] = 1
    no_data: ClassVar[Literal["alert"]] = "alert"

    @property
    def panes(self) -> int:
        """How many panes make a window."""
        return self.window // MINUTE

    @property
    def seconds(self) -> float:
        """The window's length."""
        return self.window / SECOND

    @property
    def measured_unit(self) -> Unit:
        """The unit of the metric."""
        return self.measure.unit(self.aggregation)

    @property
    def threshold_unit(self) -> Unit:
        """The same: what is held against nothing."""
        return self.measured_unit

    @field_validator("metric")
    @classmethod
    def _missable(cls, name: str) -> str:
        if name != "requests" and not name.startswith(SAMPLE_PREFIX):
            raise FieldError(
                f"{name} is counted from requests", "write requests, or a sampled state as sample:<name>"
            )
        return name

    @field_validator("window")
    @classmethod
    def _possible_window(cls, window: Micros) -> Micros:
        return whole_panes(window, "1m")

    @field_validator("minimum_requests")
    @classmethod
    def _requests_to_count(cls, least: int, info: ValidationInfo) -> int:
        if least and str(info.data.get("metric")).startswith(SAMPLE_PREFIX):
            raise FieldError("sampled states have no requests", "leave it out")
        return least


class WatchdogRule(RuleBase):
    """Always fires, for a dead man's switch outside: when its notifications stop, something is broken."""

    kind: Literal["watchdog"]
    severity: Severity = said(
        "How bad it is when it fires: info, warning, error or critical.", default="info"
    )
    repeat_interval: Duration = said("How often it is told that all is well.", default=5 * MINUTE)

    metric: ClassVar[str] = "watchdog"
    grouping: ClassVar[str] = "total"
    keys: ClassVar[tuple[str, ...]] = ()
    filter: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    aggregation: ClassVar[Literal["last"]] = "last"
    operator: ClassVar[Literal[">="]] = ">="
    pane: ClassVar[Literal["1m"]] = "1m"
    window: ClassVar[Micros] = MINUTE
    minimum_requests: ClassVar[int] = 0
    consecutive: ClassVar[int] = 1
    no_data: ClassVar[Literal["alert"]] = "alert"
