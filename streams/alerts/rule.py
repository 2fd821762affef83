"""Rules: what is measured, over which window, and what it is held against. One class per kind.

Whatever carries a unit is written as people write it (`window: 5m`, `threshold: 10 %`) and held in the
unit that the field says: spans in microseconds, shares with 1 for all, figures in the metric's unit.
`dumped` gives JSON that `parse_rule` reads as the same rule.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo
from pydantic import StrictBool, StrictInt, field_serializer, field_validator, model_validator

from streams.alerts import faults, filters
from streams.alerts.errors import Fault, FieldError, RuleError
from streams.alerts.fields import (
    WRITTEN,
    Duration,
    Filter,
    Labels,
    NoData,
    Operated,
    PaneName,
    Period,
    RuleId,
    RulePattern,
    Severity,
    ShareOf,
    Text,
    said,
)
from streams.alerts.measures import (
    GROUPING_KEYS,
    SAMPLE_GROUPING,
    SAMPLE_PREFIX,
    Aggregation,
    Counted,
    Measure,
    measure,
    nearest,
)
from streams.alerts.quiet import QuietHours
from streams.alerts.units import DEVIATIONS, SHARE, Unit, write_duration
from streams.windows.panes import DAY, HOUR, MINUTE, SECOND, Micros

PANES: Final[Mapping[str, Micros]] = {"1s": SECOND, "1m": MINUTE}
LONGEST_WINDOW: Final[Mapping[str, Micros]] = {"1s": 10 * MINUTE, "1m": 100 * MINUTE}
"""Closed panes are kept for two hours, those of a second for a quarter of one."""
SECOND_GROUPINGS: Final = ("total", "service")
"""Those that have panes of a second."""


class RuleBase(BaseModel):
    """What every rule has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: RuleId = said("What the rule is known by, and stays: small letters, digits, - and _.")
    name: Text = said("What it is called in notifications.")
    description: str = said("What it is good for, and what to do when it fires.", default="", max_length=4000)
    enabled: StrictBool = said("Whether it is judged.", default=True)
    severity: Severity = said("How bad it is when it fires: info, warning, error or critical.")
    labels: Labels = said("What its alerts can be told apart by, besides: team: payments.", default={})
    repeat_interval: Duration = said(
        "How long after a notification one is sent again while the alert still fires.", default=4 * HOUR
    )
    quiet_hours: tuple[QuietHours, ...] = said(
        "When its alerts wait: what still fires at the end of these hours is told then.", default=()
    )
    inhibits: tuple[RulePattern, ...] = said(
        "Ids of rules (* stands for anything) whose alerts aren't told while one of this rule fires for the "
        "same group, or for one that contains it.",
        default=(),
    )
    inhibited_by: tuple[RulePattern, ...] = said(
        "Ids of rules that inhibit this one: the same, said from the other side.", default=()
    )

    @field_validator("repeat_interval")
    @classmethod
    def _bounded_interval(cls, span: Micros) -> Micros:
        return _within(span, MINUTE, 30 * DAY)


class _Grouped(RuleBase):
    """A rule about a metric, for each group by itself."""

    metric: str = said("What is measured: requests, errors, latency, cost, …, or sample:<name>.")
    grouping: str = said(
        "For what it is judged by itself: total, service, model, space, workflow, error or user; sample "
        "(service and instance) for sampled states.",
        default_factory=lambda data: (
            SAMPLE_GROUPING if str(data.get("metric")).startswith(SAMPLE_PREFIX) else "total"
        ),
    )
    filter: Filter = said(
        "Which groups: for a key of the grouping the values that count, where * stands for anything.",
        default={},
    )

    @property
    def measure(self) -> Measure:
        """The metric."""
        return measure(self.metric)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the grouping."""
        return GROUPING_KEYS[self.grouping]

    def selects(self) -> pl.Expr:
        """Whether a row, by its keys, is of a group that the rule is about."""
        return filters.selects(self.filter)

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        return measure(name).name

    @field_validator("grouping")
    @classmethod
    def _carrying_grouping(cls, grouping: str, info: ValidationInfo) -> str:
        if grouping not in GROUPING_KEYS:
            raise FieldError(f"there is no grouping {grouping!r}", nearest(grouping, GROUPING_KEYS))
        if "metric" in info.data and grouping not in (one := measure(info.data["metric"])).groupings:
            raise FieldError(
                f"{one.name} isn't measured by {grouping}", f"choose one of {', '.join(one.groupings)}"
            )
        return grouping

    @field_validator("filter")
    @classmethod
    def _keys_of_the_grouping(cls, wanted: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        grouping = info.data.get("grouping")
        for key in wanted:
            if grouping is None or key in GROUPING_KEYS[grouping]:
                continue
            keys = ", ".join(GROUPING_KEYS[grouping]) or "no keys"
            having = [name for name, keyed in GROUPING_KEYS.items() if key in keyed]
            right = f"group by {' or '.join(having)}" if having else nearest(key, GROUPING_KEYS[grouping])
            raise FieldError(
                f"the grouping {grouping} has {keys}", right if keys != "no keys" or having else "", key
            )
        return wanted

    @model_validator(mode="after")
    def _labels_beside_keys(self) -> Self:
        for key in self.keys:
            if key in self.labels:
                raise FieldError(
                    f"the grouping {self.grouping} gives every alert a {key}",
                    "choose another name",
                    f"labels.{key}",
                )
        return self


class _Windowed(_Grouped):
    """A rule that holds an aggregated metric of a window against something, whenever a pane closes."""

    aggregation: Aggregation = said(
        "How the window's figures become one: rate (per second), sum, avg, p50, p95, p99, max, ratio (share of "
        "requests), or last (of sampled states). What the metric takes, and by default, is in the docs.",
        default_factory=lambda data: measure(data["metric"]).aggregations[0] if "metric" in data else "sum",
    )
    pane: PaneName = said(
        "How often it is judged: each minute, or each second (total and service only, windows to 10 minutes).",
        default="1m",
    )
    window: Duration = said(
        "The span that is judged: whole panes, to 100 minutes (10 with panes of a second)."
    )
    minimum_requests: StrictInt = said(
        "Fewest requests in the window; with fewer it isn't judged, and the alert stays as it is. Of a change, "
        "the earlier window must have as many.",
        default=0,
        ge=0,
    )
    operator: Operated = said(
        "How value and threshold compare when it fires: >, >=, <, <= (or above, at least, below, at most).",
        default=">",
    )
    consecutive: StrictInt = said(
        "How many windows in a row must violate it before it fires; pending until then.",
        default=1,
        ge=1,
        le=1000,
    )
    no_data: NoData = said(
        "What it means when a known group has no data in the window: keep the alert as it is, ok, or alert.",
        default="keep",
    )

    @property
    def measured_unit(self) -> Unit:
        """The unit of the metric so aggregated."""
        return self.measure.unit(self.aggregation)

    @property
    def seconds(self) -> float:
        """The window's length."""
        return self.window / SECOND

    @property
    def panes(self) -> int:
        """How many panes make a window."""
        return self.window // PANES[self.pane]

    @field_validator("aggregation")
    @classmethod
    def _fitting_aggregation(cls, aggregation: str, info: ValidationInfo) -> str:
        if "metric" not in info.data:
            return aggregation
        one = measure(info.data["metric"])
        if aggregation not in one.aggregations:
            raise FieldError(
                f"{one.name} has no {aggregation}", f"choose one of {', '.join(one.aggregations)}"
            )
        if (info.data.get("grouping"), one.name, aggregation) == ("error", "errors", "ratio"):
            raise FieldError(
                "by error type, all requests are errors: the ratio is always 100 %", "choose sum or rate"
            )
        return aggregation

    @field_validator("pane")
    @classmethod
    def _fitting_pane(cls, pane: str, info: ValidationInfo) -> str:
        if pane == "1s" and info.data.get("grouping", "total") not in SECOND_GROUPINGS:
            raise FieldError(
                f"the grouping {info.data['grouping']} has no panes of a second",
                "choose 1m, or group by service",
            )
        return pane

    @field_validator("window")
    @classmethod
    def _possible_window(cls, window: Micros, info: ValidationInfo) -> Micros:
        if "pane" not in info.data:
            return window
        return _whole_panes(window, info.data["pane"])

    @field_validator("minimum_requests")
    @classmethod
    def _requests_to_count(cls, least: int, info: ValidationInfo) -> int:
        if least and str(info.data.get("metric")).startswith(SAMPLE_PREFIX):
            raise FieldError("sampled states have no requests", "leave it out")
        return least


class ThresholdRule(_Windowed):
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
        unit = _unit(info)
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


class BaselineRule(_Windowed):
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
        return _signed(DEVIATIONS.parse(written), DEVIATIONS, info)

    @field_validator("around")
    @classmethod
    def _bounded_around(cls, span: Micros) -> Micros:
        return _within(span, MINUTE, 6 * HOUR)

    @field_validator("minimum_change")
    @classmethod
    def _positive_change(cls, share: float) -> float:
        if share < 0:
            raise FieldError("a distance is never under 0", SHARE.right)
        return share

    @field_validator("minimum_difference", mode="before")
    @classmethod
    def _difference(cls, written: object, info: ValidationInfo) -> float:
        unit = _unit(info)
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


class ChangeRule(_Windowed):
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
        return _within(span, MINUTE, 400 * DAY)

    @field_validator("threshold", mode="before")
    @classmethod
    def _share(cls, written: object, info: ValidationInfo) -> float:
        value = _signed(SHARE.parse(written), SHARE, info)
        if value <= -1:
            raise FieldError(
                "nothing falls by 100 % or more", "write less, as in -80 %, or make a rule of kind absence"
            )
        return value

    @field_serializer("threshold", when_used="json")
    def _written_threshold(self, value: float) -> str:
        return SHARE.write(value)


class CapacityRule(_Windowed):
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
        return _above_zero(written, _unit(info))

    @field_validator("threshold")
    @classmethod
    def _positive(cls, share: float) -> float:
        if share <= 0:
            raise FieldError("a share of capacity is over 0", "write it as in 80 % or 150 %")
        return share

    @field_serializer("capacity", when_used="json")
    def _written_capacity(self, value: float) -> str:
        return self.measured_unit.write(value)


class BudgetRule(_Grouped):
    """Fires when what was used since the period began reaches a step of the limit: once per period, group and
    step."""

    kind: Literal["budget"]
    limit: Annotated[float, WRITTEN] = said("What each group may use in a period: 2M tokens, 50 USD.")
    period: Period = said(
        "The calendar's day, week (from Monday) or month, in the service's time zone; or a rolling span in hours "
        "or days: 24h, 30d."
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
        return _above_zero(written, unit)

    @field_validator("period")
    @classmethod
    def _possible_period(cls, period: str | Micros) -> str | Micros:
        if isinstance(period, str):
            return period
        if period % HOUR:
            raise FieldError(
                f"{write_duration(period)} are no whole hours", "write hours or days, as in 24h or 30d"
            )
        return _within(period, HOUR, 35 * DAY)

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


class AbsenceRule(_Grouped):
    """Fires when a group that had data has none any more."""

    kind: Literal["absence"]
    metric: str = said("What is missed: requests, or a sampled state (sample:<name>).", default="requests")
    window: Duration = said("For how long there was nothing: whole minutes, to 100.")
    minimum_requests: StrictInt = said(
        "How many requests the group must have had in a window of the same length, up to the last that came: a "
        "group that had less may well pause.",
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
        return _whole_panes(window, "1m")

    @field_validator("minimum_requests")
    @classmethod
    def _requests_to_count(cls, least: int, info: ValidationInfo) -> int:
        if least and str(info.data.get("metric")).startswith(SAMPLE_PREFIX):
            raise FieldError("sampled states have no requests", "leave it out")
        return least


class WatchdogRule(RuleBase):
    """Always fires, for a dead man's switch outside: when its notifications stop, something here is broken."""

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


def parse_rule(data: object, where: str = "") -> Rule:
    """The rule that `data` (as from JSON or YAML) describes.

    Raises RuleError with everything that is wrong; `where` is put before each fault's place.
    """
    if not isinstance(data, Mapping):
        raise RuleError([Fault(where, "this is no rule", "write its fields as a mapping")])
    try:
        return RULE.validate_python(data)
    except ValidationError as error:
        raise RuleError(faults.of(error, KINDS, where)) from error


def dumped(rule: Rule) -> dict[str, Any]:
    """The rule as JSON that `parse_rule` reads as the same rule: all fields, units as people write them."""
    return RULE.dump_python(rule, mode="json")  # type: ignore[no-any-return]


def _unit(info: ValidationInfo) -> Unit | None:
    """The unit of the metric, when both metric and aggregation are right."""
    if not {"metric", "aggregation"} <= info.data.keys():
        return None
    return measure(info.data["metric"]).unit(info.data["aggregation"])


def _above_zero(written: object, unit: Unit | None) -> float:
    if unit is None:
        return 1.0
    value = unit.parse(written)
    if value <= 0:
        raise FieldError("this must be over 0", unit.right)
    return value


def _signed(value: float, unit: Unit, info: ValidationInfo) -> float:
    """A distance whose sign says which way, as the operator does."""
    falls = info.data.get("operator", ">").startswith("<")
    if value == 0 or falls == (value > 0):
        right = f"write {unit.write(-abs(value) or -1)} for a fall, {unit.write(abs(value) or 1)} with > for a rise"
        raise FieldError(f"{unit.write(value)} doesn't go with {info.data.get('operator', '>')}", right)
    return value


def _whole_panes(window: Micros, pane: str) -> Micros:
    length, longest = PANES[pane], LONGEST_WINDOW[pane]
    told = write_duration(window)
    if window % length or not window:
        hint = ", or choose pane 1s" if pane == "1m" else ""
        raise FieldError(f"{told} is no whole number of panes of {pane}", f"write a multiple of {pane}{hint}")
    if window > longest:
        raise FieldError(f"{told} is too long for panes of {pane}", f"at most {write_duration(longest)}")
    return window


def _within(span: Micros, least: Micros, most: Micros) -> Micros:
    if not least <= span <= most:
        raise FieldError(
            f"{write_duration(span)} is out of bounds",
            f"write {write_duration(least)} to {write_duration(most)}",
        )
    return span
