"""Rules about a metric, judged for each group by itself."""

from collections.abc import Mapping
from typing import Any, Self

import polars as pl
from pydantic import ValidationInfo, field_validator, model_validator

from streams.alerts import filters
from streams.alerts.errors import FieldError
from streams.alerts.fields import Filter, described, without_default
from streams.alerts.kinds.kind import RuleBase
from streams.alerts.limits import Judging
from streams.alerts.measures import GROUPING_KEYS, SAMPLE_GROUPING, SAMPLE_PREFIX, Measure, measure, nearest
from streams.alerts.state import RuleState
from streams.alerts.transitions import resolve


class GroupedRule(RuleBase):
    """A rule about a metric, for each group by itself."""

    metric: str = described("What is measured: requests, errors, latency, cost, …, or sample:<name>.")
    grouping: str = described(
        "For what it is judged by itself: total, service, model, space, workflow, error or user; sample "
        "(service and instance) for sampled states.",
        default="total",
        json_schema_extra=without_default,
    )
    filter: Filter = described(
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

    def selected(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of the groups that the rule is about."""
        return rows.filter(self.selects()) if self.filter else rows

    def revise(self, state: RuleState, at: Judging) -> None:
        """End the alerts of groups that the rule is not about any more."""
        if not (self.filter and state.open):
            return
        groups = list(state.open)
        frame = pl.DataFrame(groups, schema=list(self.keys), orient="row")
        about = set(frame.filter(self.selects()).rows())
        gone = [group for group in groups if group not in about]
        resolve(state, gone, "the rule is not about this any more", at)

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
