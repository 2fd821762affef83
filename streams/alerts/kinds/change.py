"""Rules of kind change: the value of a window has risen, or fallen, against the same window earlier."""

from collections.abc import Iterator
from datetime import tzinfo
from typing import Annotated, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationInfo, field_serializer, field_validator

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.alerts.bounds import signed, within
from streams.alerts.durations import write_duration
from streams.alerts.errors import FieldError
from streams.alerts.fields import WRITTEN, Duration, described
from streams.alerts.kinds.comparison import Comparison, Floats
from streams.alerts.kinds.referenced import ReferencedRule, earlier
from streams.alerts.units import SHARE, Unit

_SETTLED: Final[Micros] = 30 * SECOND
"""How long after its end a window is in ClickHouse: the lateness, and what the sinks take."""


class ChangeRule(ReferencedRule):
    """Fires when the value has changed against the same window earlier: (value - earlier) / earlier."""

    kind: Literal["change"]
    against: Duration = described("How much earlier the window lies that it is compared with: 1h, 1d, 7d.")
    threshold: Annotated[float, WRITTEN] = described("How much it has changed: 50 % with >, -50 % with <.")

    slot: ClassVar[Micros] = MINUTE
    samples: ClassVar[Literal["requests"]] = "requests"

    @property
    def threshold_unit(self) -> Unit:
        """The unit of the threshold, and of what is held against it."""
        return SHARE

    @property
    def stated_threshold(self) -> float:
        """The threshold."""
        return self.threshold

    @property
    def stride(self) -> Micros:
        """One window for each slot."""
        return self.slot

    def earlier(self, slot: Micros, zone: tzinfo) -> Iterator[tuple[Micros, Micros]]:
        """The window that ends `against` before the slot's end."""
        end = earlier(slot + self.slot, self.against, zone)
        yield end, end

    def known_until(self, until: Micros, now: Micros) -> Micros:
        """Up to which slot (excluded) the earlier windows are over, and in ClickHouse."""
        least = self.against if self.against % DAY else self.against - HOUR
        over = now - _SETTLED - self.slot + least
        return min(until, over - over % self.slot + self.slot)

    def deviation(
        self, measured: Floats, means: Floats, stds: Floats, samples: npt.NDArray[np.int64]
    ) -> Comparison:
        """As a share of the earlier value."""
        known = (samples >= self.minimum_requests) & (means != 0) & ~np.isnan(means)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(known, (measured - means) / means, np.nan)
        stated = {"measured": measured, "mean": means, "samples": samples.astype(np.float64)}
        return Comparison(values, no_baseline=~known & ~np.isnan(measured), extra=stated)

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
