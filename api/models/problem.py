"""What a failed request answers."""

from pydantic import BaseModel, ConfigDict, Field


class ProblemFault(BaseModel):
    """One thing that is wrong with a body."""

    where: str = Field(description="Where, from the thing's name on: `rule.window`.")
    detail: str = Field(description="What is wrong there, and what would be right.")


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
                    "errors": None,
                }
            ]
        }
    )

    type: str = Field(description="The kind of failure: a stable URN.")
    title: str = Field(description="The kind of failure, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What exactly is wrong, and what to do.")
    where: str | None = Field(
        None, description="The parameter, the field, or the part of the system that it is about."
    )
    errors: list[ProblemFault] | None = Field(
        None, description="Everything that is wrong with a body; the first is also `where` and `detail`."
    )
