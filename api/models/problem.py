"""What a failed request answers."""

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """A failure, as RFC 9457 has it (`application/problem+json`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:chatgauge:problem:bad-parameter",
                    "title": "A parameter is not usable",
                    "status": 400,
                    "detail": "'5x' is no span of time: write a whole number and s, m or h, such as 5m.",
                    "where": "window",
                }
            ]
        }
    )

    type: str = Field(description="The kind of failure: a stable URN.")
    title: str = Field(description="The kind of failure, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What exactly is wrong, and what to do.")
    where: str | None = Field(None, description="The parameter, or the part of the system, that it is about.")
