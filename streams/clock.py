"""The clock, for the edge: what is pure takes the time as an argument."""

import time

from streams.windows.panes import Micros


def clock() -> Micros:
    """Now, in microseconds since 1970."""
    return time.time_ns() // 1000
