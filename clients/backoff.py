"""How long to wait before the next attempt."""

import random
from typing import Final

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 15.0


def delay(attempt: int, chance: random.Random) -> float:
    """Seconds to wait after the `attempt`-th failure (from 0): doubling, capped, half of it jitter."""
    ceiling = min(_LONGEST_S, _FIRST_S * 2.0 ** min(attempt, 16))
    return ceiling * (0.5 + chance.random() / 2)
