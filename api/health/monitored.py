"""What health and metrics look at."""

from dataclasses import dataclass

from api.access.guard import Guard
from api.alerting.alerts import Alerts
from api.definitions.definitions import Definitions
from api.health.probe import Probe
from api.health.progress import Progress
from api.live.live import Live
from api.live.reader import Reader


@dataclass(frozen=True, kw_only=True)
class Monitored:
    """The parts of the API whose state is shown to those who run it."""

    live: Live
    reader: Reader
    progress: Progress
    probe: Probe
    definitions: Definitions
    alerts: Alerts
    guard: Guard
