"""When simulated requests end: evenly in number, jittered, and swelling with the hours of the day."""

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_SECOND_US = 1_000_000
_DAY_S = 86_400
_PEAK_S = 15 * 3_600
_STEPS = 2_880
_WAVELESS_S = 600
_HIGHEST_WAVE = 0.95


@dataclass(frozen=True)
class Timeline:
    """Maps the place of a request in the stream to its moment.

    With a `count`, all lie within `count / rate` seconds from `start`, and more of them in the (UTC)
    afternoon than at night: by `wave`, 0 for none, at most 0.95 for next to none at 03:00. Their mean
    rate is `rate` exactly. Without a `count` the stream has no end, and no wave; nor has it one within
    ten minutes.
    """

    start: datetime
    rate: float
    count: int | None
    wave: float
    _grid: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = field(init=False)

    def __post_init__(self) -> None:
        grid = None
        if self.count and self.wave and self.count / self.rate > _WAVELESS_S:
            at = np.linspace(0, self.count / self.rate, _STEPS + 1)
            of_day = (at + self.start.timestamp() % _DAY_S - _PEAK_S) * 2 * np.pi / _DAY_S
            # The integral of 1 + wave × cos: how much of the traffic has passed by then.
            swell = min(self.wave, _HIGHEST_WAVE) * _DAY_S / (2 * np.pi)
            passed = at + swell * (np.sin(of_day) - np.sin(of_day[0]))
            grid = (passed / passed[-1], at)
        object.__setattr__(self, "_grid", grid)

    @property
    def start_us(self) -> int:
        return round(self.start.timestamp() * _SECOND_US)

    def at_us(self, places: npt.NDArray[np.float64]) -> Ints:
        """Microseconds since 1970 of the given places, 0 to `count`; fractions lie between."""
        if self._grid and self.count:
            seconds = np.interp(places / self.count, *self._grid)
        else:
            seconds = places / self.rate
        return self.start_us + (seconds * _SECOND_US).astype(np.int64)
