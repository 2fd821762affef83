"""The application's services, as dependencies of routes: `async def route(live: LiveDep) -> Current`."""

from collections.abc import Callable
from datetime import tzinfo
from typing import Annotated, Any

from fastapi import Depends, Request

from api.access.guard import Guard
from api.alerting.alerts import Alerts
from api.alerting.archive import Archive
from api.alerting.backtesting import Backtester
from api.alerting.notifications import NotificationPublisher
from api.alerting.redriving import Redriver
from api.definitions.endpoint_editor import DraftingOnDemand
from api.definitions.store import DefinitionStore
from api.events.viewer import Viewer
from api.health.readiness import Health
from api.history.store import History
from api.live.live import Live
from api.scrape import Scrape
from api.services import Services
from api.times import Clock
from infra.liveness import Part


def _service(choose: Callable[[Services], Any]) -> Any:
    # A coroutine, although it awaits nothing: FastAPI runs plain functions in threads.
    async def dependency(request: Request) -> Any:
        return choose(request.app.state.services)

    return Depends(dependency)


ClockDep = Annotated[Clock, _service(lambda services: services.clock)]
ZoneDep = Annotated[tzinfo, _service(lambda services: services.options.zone)]
PublicUrlDep = Annotated[str, _service(lambda services: services.options.public_url)]
LiveDep = Annotated[Live, _service(lambda services: services.live)]
HistoryDep = Annotated[History, _service(lambda services: services.history)]
GuardDep = Annotated[Guard, _service(lambda services: services.guard)]
RulesDep = Annotated[DefinitionStore, _service(lambda services: services.definitions.rules)]
EndpointsDep = Annotated[DefinitionStore, _service(lambda services: services.definitions.endpoints)]
SilencesDep = Annotated[DefinitionStore, _service(lambda services: services.definitions.silences)]
DraftingDep = Annotated[DraftingOnDemand, _service(lambda services: services.drafting)]
AlertsDep = Annotated[Alerts, _service(lambda services: services.alerts)]
ArchiveDep = Annotated[Archive, _service(lambda services: services.alerts.archive)]
ViewerDep = Annotated[Viewer, _service(lambda services: services.viewer)]
BacktesterDep = Annotated[Backtester, _service(lambda services: services.backtester)]
NotificationsDep = Annotated[NotificationPublisher, _service(lambda services: services.notifications)]
RedriverDep = Annotated[Redriver, _service(lambda services: services.redriver)]
HealthDep = Annotated[Health, _service(lambda services: services.health)]
ScrapeDep = Annotated[Scrape, _service(lambda services: services.scrape)]
PartDep = Annotated[Part, _service(lambda services: services.part)]
