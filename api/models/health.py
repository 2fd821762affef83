"""The answers of `/health/live` and `/health/ready`."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.liveness import Report, State

_NOT_READY: Final[dict[str, Any]] = {
    "status": "not ready",
    "awaiting": ["rollup has not advanced for 30 s in chat.requests, partition 2 (1,204 waiting)"],
    "checks": [
        {"name": "kafka", "part": "kafka", "ok": True, "detail": "answers"},
        {"name": "clickhouse", "part": "clickhouse", "ok": True, "detail": "answers"},
        {"name": "live state", "part": "api", "ok": True, "detail": "caught up"},
        {
            "name": "chatgauge-rollup on chat.requests",
            "part": "rollup",
            "ok": False,
            "detail": "rollup has not advanced for 30 s in chat.requests, partition 2 (1,204 waiting)",
            "lag": 1204,
            "stuck_partitions": [2],
        },
    ],
}

READY_EXAMPLE: Final[dict[str, Any]] = {
    "status": "ready",
    "awaiting": [],
    "checks": [
        {
            "name": "chatgauge-rollup on chat.requests",
            "part": "rollup",
            "ok": True,
            "detail": "up to date",
            "lag": 0,
            "stuck_partitions": [],
        }
    ],
}


class Awaited(BaseModel):
    """Something that the process waits for."""

    unit: str = Field(description="What of the process waits.")
    what: str = Field(alias="for", description="What it waits for.")
    seconds: float = Field(description="For how long it has waited.")

    model_config = ConfigDict(populate_by_name=True)


class Alive(BaseModel):
    """The process is up. The other parts answer alike, beside their metrics."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "status": "alive",
                    "uptime_s": 86.2,
                    "part": "api",
                    "state": "running",
                    "reason": None,
                    "waiting": [],
                    "progress": 24,
                }
            ]
        }
    )

    status: Literal["alive", "stalled"] = "alive"
    uptime_s: float = Field(description="Seconds since the process started.")
    part: str = Field(description="Which part this is.")
    state: Literal["starting", "running", "waiting", "halted", "stalled"]
    reason: str | None = Field(None, description="Why it is stalled.")
    waiting: list[Awaited] = Field(description="What it waits for. That is no reason to start it again.")
    progress: int = Field(description="Grows whenever the process gets on.")

    @classmethod
    def of(cls, report: Report, *, uptime_s: float) -> "Alive":
        """As a part reports it."""
        return cls(
            status="stalled" if report.state is State.STALLED else "alive",
            uptime_s=uptime_s,
            part=report.part,
            state=report.state.value,
            reason=report.reason,
            waiting=[
                Awaited(unit=wait.unit, what=wait.what, seconds=round(wait.seconds, 1))
                for wait in report.waiting
            ],
            progress=report.moves,
        )


class Check(BaseModel):
    """One thing that must be well."""

    name: str
    part: str = Field(description="The part of the system that it is about.")
    ok: bool
    detail: str = Field(description="How it is; when it is not well, what is wrong.")
    lag: int | None = Field(None, description="Records that wait for the part.")
    stuck_partitions: list[int] = Field(default_factory=list, description="Partitions that do not advance.")


class Readiness(BaseModel):
    """Whether figures can be had and grow: every part is there and gets on with its work."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NOT_READY]})

    status: Literal["ready", "not ready"]
    awaiting: list[str] = Field(description="What is not well, in words; empty when ready.")
    checks: list[Check]
