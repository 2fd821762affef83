"""What rules have in common: every rule; one about a metric, by groups; one about a window of it."""

from collections.abc import Mapping
from typing import Any, Self

import polars as pl
from pydantic import (
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts import filters
from streams.alerts.bounds import PANES, SECOND_GROUPINGS, whole_panes, within
from streams.alerts.errors import FieldError
from streams.alerts.fields import (
    Duration,
    Filter,
    Labels,
    NoData,
    Operated,
    PaneName,
    RuleId,
    RulePattern,
    Severity,
    Text,
    said,
    without_default,
)
from streams.alerts.measures import (
    GROUPING_KEYS,
    SAMPLE_GROUPING,
    SAMPLE_PREFIX,
    Aggregation,
    Measure,
    measure,
    nearest,
)
from streams.alerts.quiet import QuietHours
from streams.alerts.units import Unit


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
        return within(span, MINUTE, 30 * DAY)


class GroupedRule(RuleBase):
    """A rule about a metric, for each group by itself."""

    metric: str = said("What is measured: requests, errors, latency, cost, …, or sample:<name>.")
    grouping: str = said(
        "For what it is judged by itself: total, service, model, space, workflow, error or user; sample "
        "(service and instance) for sampled states.",
        default="total",
        json_schema_extra=without_default,
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

    @model_validator(mode="before")
    @classmethod
    def _grouped_by_default(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and str(data.get("metric")).startswith(SAMPLE_PREFIX):
            return {"grouping": SAMPLE_GROUPING, **data}
        return data

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
                    "labels",
                    key,
                )
        return self


class WindowedRule(GroupedRule):
    """A rule that holds an aggregated metric of a window against something, whenever a pane closes."""

    aggregation: Aggregation = said(
        "How the window's figures become one: rate (per second), sum, avg, p50, p95, p99, max, ratio (share "
        "of requests), or last (of sampled states). Each metric takes some, and one by default.",
        default="sum",
        json_schema_extra=without_default,
    )
    pane: PaneName = said(
        "How often it is judged: each minute, or each second (total and service, windows to 10 minutes). "
        "Sampled states are judged at every sample.",
        default="1m",
    )
    window: Duration = said(
        "The span that is judged: whole panes, to 100 minutes (10 with panes of a second)."
    )
    minimum_requests: StrictInt = said(
        "Fewest requests in the window; with fewer it isn't judged, and the alert stays as it is. Of a "
        "change, the earlier window must have as many.",
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

    @model_validator(mode="before")
    @classmethod
    def _aggregated_by_default(cls, data: Any) -> Any:
        try:
            return {"aggregation": measure(data["metric"]).aggregations[0], **data}
        except (KeyError, TypeError, FieldError):
            return data  # what is wrong with it is found by the fields

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
        return whole_panes(window, info.data["pane"])

    @field_validator("minimum_requests")
    @classmethod
    def _requests_to_count(cls, least: int, info: ValidationInfo) -> int:
        if least and str(info.data.get("metric")).startswith(SAMPLE_PREFIX):
            raise FieldError("sampled states have no requests", "leave it out")
        return least
