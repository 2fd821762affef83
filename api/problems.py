"""Failures as answers: `application/problem+json`."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.errors import ApiError, BadParameterError, InvalidError, NotFoundError
from api.models.problem import Problem, ProblemFault

_log = logging.getLogger(__name__)


def problem(error: ApiError) -> JSONResponse:
    """The answer that describes this failure."""
    body = Problem(
        type=f"urn:chatgauge:problem:{error.kind}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        where=error.where,
        errors=[ProblemFault(where=fault.where, detail=fault.detail) for fault in error.faults]
        if isinstance(error, InvalidError)
        else None,
    )
    return JSONResponse(
        body.model_dump(exclude=None if body.errors else {"errors"}),
        status_code=error.status,
        headers=dict(error.headers),
        media_type="application/problem+json",
    )


def answer_problems(app: FastAPI) -> None:
    """Let every failure of the app be answered as a problem."""

    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = str(first["loc"][1] if len(first["loc"]) > 1 else first["loc"][0])
        given = f" (given: {first['input']!r})" if first.get("input") is not None else ""
        return problem(BadParameterError(f"{first['msg']}{given}.", where=where))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return problem(
                NotFoundError(f"{request.url.path} is not known; /docs lists what is.", where="path")
            )
        other = ApiError(str(error.detail))
        other.status, other.kind, other.title = error.status_code, "http", str(error.detail)
        answer = problem(other)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(ApiError("The failure is in the log of the API."))
