"""What pydantic found wrong with a rule, in words that say where, what, and what would be right."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streams.alerts.errors import Fault, FieldError
from streams.alerts.measures import nearest

_LONGEST: Final = 80


def of(error: ValidationError, kinds: Mapping[str, type[BaseModel]], where: str = "") -> list[Fault]:
    """A fault for each error; places begin with `where`."""
    return [_fault(each, kinds, where) for each in error.errors(include_url=False)]


def place(where: str, path: Sequence[str | int]) -> str:
    """`rules[3].filter.model[0]`."""
    for step in path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else step
    return where


def _fault(error: ErrorDetails, kinds: Mapping[str, type[BaseModel]], where: str) -> Fault:
    path = list(error["loc"])
    model = kinds.get(str(path[0])) if path else None
    if model is not None:
        del path[0]
    context: dict[str, Any] = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, FieldError):
        return Fault(place(where, [*path, *filter(None, [cause.where])]), cause.message, cause.right)
    at = place(where, path)
    match error["type"]:
        case "union_tag_not_found":
            return Fault(place(where, ["kind"]), "is missing", f"there are {', '.join(kinds)}")
        case "union_tag_invalid":
            return Fault(
                place(where, ["kind"]),
                f"there is no kind {_short(context['tag'])}",
                nearest(str(context["tag"]), kinds),
            )
        case "missing":
            return Fault(at, "is missing", _description(model, path))
        case "extra_forbidden":
            known = list(model.model_fields) if model is not None and len(path) == 1 else []
            return Fault(at, "there is no such field", nearest(str(path[-1]), known) if known else "")
        case "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            return Fault(
                at, f"{_short(error['input'])} is none of its values", nearest(str(error["input"]), known)
            )
    return Fault(at, error["msg"].removeprefix("Input ").rstrip("."), _description(model, path))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _description(model: type[BaseModel] | None, path: Sequence[str | int]) -> str:
    if model is None or not path or path[0] not in model.model_fields:
        return ""
    return model.model_fields[str(path[0])].description or ""
