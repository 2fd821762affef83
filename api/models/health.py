"""The answers of `/health/live` and `/health/ready`."""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

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


class Alive(BaseModel):
    """The process is up."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive", "uptime_s": 86.2}]})

    status: Literal["alive"] = "alive"
    uptime_s: float = Field(description="Seconds since the process started.")


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
