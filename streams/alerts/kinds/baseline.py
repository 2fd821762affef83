"""Rules of kind baseline: the value of a window is unusual for the time of the day, or of the week."""

from collections.abc import Iterator
from datetime import tzinfo
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import StrictInt, ValidationInfo, field_serializer, field_validator

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.bounds import signed, unit_of, within
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, Duration, ShareOf, described
from streams.alerts.kinds.comparison import Comparison, Floats
from streams.alerts.kinds.referenced import ReferencedRule, earlier
from streams.alerts.units import DEVIATIONS, SHARE, Unit

MOST_DEVIATIONS: Final = 1_000.0
"""Further from the mean it makes no difference; so far is a value off where nothing ever varied."""


class BaselineRule(ReferencedRule):
    """Fires when the value is unusual for the time: z = (value - mean) / standard deviation of the same time
    of the day (or week) in the days (or weeks) before."""

    kind: Literal["baseline"]
    threshold: Annotated[float, WRITTEN] = described(
        "How many standard deviations from the mean: 3 with >, -3 with <.", default=3.0
    )
    season: Literal["day", "week"] = described(
        "After which time the traffic repeats itself: compared are the same times of day, or of the week.",
        default="week",
    )
    seasons: StrictInt = described("How many days or weeks back.", default=4, ge=1, le=60)
    around: Duration = described(
        "How far before and after the same time a window may lie.", default=30 * MINUTE
    )
    minimum_samples: StrictInt = described(
        "From how many earlier windows on there is a baseline; with fewer the rule is not judged.",
        default=6,
        ge=2,
    )
    minimum_change: ShareOf = described(
        "How far from the mean the value must be in any case, as a share of the mean.", default=0.1
    )
    minimum_difference: Annotated[float, WRITTEN] = described(
        "How far from the mean the value must be in any case, in the metric's unit: 2 %, 100 ms.", default=0.0
    )

    slot: ClassVar[Micros] = 5 * MINUTE
    samples: ClassVar[Literal["windows"]] = "windows"

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return DEVIATIONS

    @property
    def stated_threshold(self) -> float:
        """The threshold."""
        return self.threshold

    @property
    def stride(self) -> Micros:
        """Side by side, and closer where a slot would otherwise see too few."""
        return max(SECOND, min(self.window, max(MINUTE, self.around // 3 // MINUTE * MINUTE)))

    def earlier(self, slot: Micros, zone: tzinfo) -> Iterator[tuple[Micros, Micros]]:
        """From `around` before the slot's start to `around` after its end, so many seasons earlier."""
        season = DAY if self.season == "day" else 7 * DAY
        for turn in range(1, self.seasons + 1):
            then = earlier(slot, turn * season, zone)
            yield then - self.around, then + self.slot + self.around

    def deviation(
        self, measured: Floats, means: Floats, stds: Floats, samples: npt.NDArray[np.int64]
    ) -> Comparison:
        """In standard deviations. Where nothing ever varied, any difference is the most there is."""
        off = measured - means
        known = (samples >= self.minimum_samples) & ~np.isnan(means) & ~np.isnan(stds)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(off == 0, 0.0, off / stds)
            notable = np.abs(off) >= np.maximum(self.minimum_change * np.abs(means), self.minimum_difference)
        values = np.where(known, np.clip(values, -MOST_DEVIATIONS, MOST_DEVIATIONS), np.nan)
        stated = {"measured": measured, "mean": means, "samples": samples.astype(np.float64), "std": stds}
        return Comparison(values, notable, ~known & ~np.isnan(measured), stated)

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
