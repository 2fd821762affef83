"""Whether a part gets on: what it declares, who judges it, and how it is told.

A part is starting, running, waiting (declared), halted in some partitions (declared), or stalled. It ends,
with the reason as the last line of its log, when a task that it needs ends or when it is stalled.
"""

from infra.liveness.attending import attended
from infra.liveness.needed import EndedError, reason_of, side_by_side
from infra.liveness.part import Halted, Part, Report, State, Waiting, described
from infra.liveness.server import LIVE, READY, document, serving, status_of
from infra.liveness.unit import Unit
from infra.liveness.watchdog import Watchdog

__all__ = [
    "LIVE",
    "READY",
    "EndedError",
    "Halted",
    "Part",
    "Report",
    "State",
    "Unit",
    "Waiting",
    "Watchdog",
    "attended",
    "described",
    "document",
    "reason_of",
    "serving",
    "side_by_side",
    "status_of",
]
