"""`GET /health/live`, `/health/ready` and `/metrics`: for those who run it."""

from fastapi import APIRouter, Response

from api.dependencies import HealthDep, PartDep, ScrapeDep
from api.models.health import READY_EXAMPLE, Alive, Readiness
from infra.liveness import LIVE, status_of

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


router = APIRouter(tags=["operations"])


@router.get(
    "/health/live",
    summary="Whether the process is up",
    responses={503: {"model": Alive, "description": "It is stalled, and about to end."}},
)
async def live(part: PartDep, health: HealthDep, response: Response) -> Alive:
    """Answers as long as the process does, and says what it waits for. It looks at nothing else."""
    report = part.report()
    response.status_code = status_of(LIVE, report)
    return Alive.of(report, uptime_s=health.uptime_s())


@router.get(
    "/health/ready",
    summary="Whether every part gets on with its work",
    responses={
        200: {"content": {"application/json": {"example": READY_EXAMPLE}}},
        503: {"model": Readiness, "description": "Something is not well, or not there yet."},
    },
)
async def ready(health: HealthDep, response: Response) -> Readiness:
    """Looks at Kafka, ClickHouse, the live state, and at the progress of every consumer group.

    A group with work waiting that has not advanced for 30 s, or that has no member though there
    are events, is not well. A system without events is.
    """
    answer = await health.ready()
    response.status_code = 200 if answer.status == "ready" else 503
    return answer


@router.get(
    "/metrics",
    summary="Prometheus metrics of every part",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": "# HELP chatgauge_part_up Whether a part serves its metrics.\n"
                    "# TYPE chatgauge_part_up gauge\n"
                    'chatgauge_part_up{part="rollup"} 1.0\n',
                }
            },
            "description": "Text exposition. The label `part` says which part a series comes from.",
        }
    },
)
async def metrics(scrape: ScrapeDep) -> Response:
    """The API's own metrics, lag per consumer group, and what the other parts report."""
    return Response(await scrape.text(), media_type=_EXPOSITION)
