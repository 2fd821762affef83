"""Rules about a window of a metric, whatever they hold it against: their fields."""

from abc import abstractmethod
from typing import Any

import polars as pl
from pydantic import StrictInt, ValidationInfo, field_validator, model_validator

from schemas.time import SECOND, Micros
from streams.alerts.bounds import SECOND_GROUPINGS, whole_panes
from streams.alerts.errors import FieldError
from streams.alerts.fields import Duration, NoData, Operated, PaneName, described, without_default
from streams.alerts.kinds.comparison import Comparison, Floats
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.measures import SAMPLE_PREFIX, Aggregation, Latency, measure
from streams.alerts.pane_series import PANES
from streams.alerts.references import References
from streams.alerts.units import Unit


class WindowedRule(GroupedRule):
    """A rule that holds an aggregated metric of a window against something, whenever a pane closes."""

    aggregation: Aggregation = described(
        "How the window's figures become one: rate (per second), sum, avg, p50, p95, p99, max, ratio (share "
        "of requests), or last (of sampled states). Each metric takes some, and one by default.",
        default="sum",
        json_schema_extra=without_default,
    )
    pane: PaneName = described(
        "How often it is judged: each minute, or each second (total and service, windows to 10 minutes). "
        "Sampled states are judged at every sample.",
        default="1m",
    )
    window: Duration = described(
        "The span that is judged: whole panes, to 100 minutes (10 with panes of a second)."
    )
    minimum_requests: StrictInt = described(
        "Fewest requests in the window; with fewer it isn't judged, and the alert stays as it is. Of a "
        "change, the earlier window must have as many.",
        default=0,
        ge=0,
    )
    operator: Operated = described(
        "How value and threshold compare when it fires: >, >=, <, <= (or above, at least, below, at most).",
        default=">",
    )
    consecutive: StrictInt = described(
        "How many windows in a row must violate it before it fires; pending until then.",
        default=1,
        ge=1,
        le=1000,
    )
    no_data: NoData = described(
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

    @property
    def latencies(self) -> tuple[str, ...]:
        """The latency that it is about, if it is about one."""
        return (self.measure.column,) if isinstance(self.measure, Latency) else ()

    @property
    @abstractmethod
    def stated_threshold(self) -> float:
        """What the value is held against, in `threshold_unit`."""

    @abstractmethod
    def compare(self, rows: pl.DataFrame, measured: Floats, reference: pl.DataFrame | None) -> Comparison:
        """The values that are held against the threshold, one for each of `rows`, which are the window's.

        `measured` is the metric, NaN where there is no data. `reference` is what `references.References.of`
        gives; None where nothing is known, and for kinds that need none.
        """

    def reference(self, references: References, end: Micros) -> pl.DataFrame | None:
        """What a window that ends at `end` is held against."""
        return None

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
