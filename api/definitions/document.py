"""Bodies: JSON objects of a bounded size, held against a model."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.errors import BadParameterError, Fault, InvalidError, MediaTypeError, TooLargeError

LARGEST: Final = 256 * 1024
"""Most bytes of a body."""

M = TypeVar("M", bound=BaseModel)


async def read_document(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The body's JSON object; an empty one for no body, when it is `optional`.

    Raises MediaTypeError, TooLargeError, BadParameterError.
    """
    body = await _read(request)
    if optional and not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise MediaTypeError(
            f"Send JSON, with the header `Content-Type: application/json` (not {kind or 'nothing'}).",
            where="Content-Type",
        )
    try:
        document = json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadParameterError(f"The body is not JSON: {error}.", where="body") from None
    if not isinstance(document, dict):
        raise BadParameterError('The body must be a JSON object: {"…": …}.', where="body")
    return document


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise TooLargeError(f"A body may have at most {LARGEST:,} bytes.", where="body")
    return bytes(body)


def validated(model: type[M], document: Mapping[str, Any], what: str) -> M:
    """The document as `model`. Raises InvalidError, each place named from `what` on: `silence.matchers.0`."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InvalidError(list(faults(error, what))) from None


def faults(error: ValidationError, what: str) -> Iterable[Fault]:
    """What a model has found wrong, without the values that were given: they may be secret."""
    for found in error.errors(include_url=False, include_context=False):
        yield Fault(".".join((what, *map(str, found["loc"]))), _sentence_of(found["type"], found["msg"]))


def _sentence_of(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "There is no such field: leave it out, or look at its spelling."
    if kind == "missing":
        return "This is needed."
    text = message.removeprefix("Value error, ")
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")
