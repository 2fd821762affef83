"""What pydantic found wrong with a rule, in words that say where, what, and what would be right."""

import re
import reprlib
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from streams.alerts.errors import Fault, FieldError
from streams.alerts.measures import nearest

_SHORT: Final = reprlib.Repr()
_SHORT.maxlevel = 1

Path = tuple[str | int, ...]


def of(error: ValidationError, kinds: Mapping[str, type[BaseModel]], at: Path = ()) -> list[Fault]:
    """A fault for each error; the rule's own place is `at`."""
    return [_fault(each, kinds, at) for each in error.errors(include_url=False)]


def fault(path: Path, message: str, right: str = "") -> Fault:
    """A fault at `path`, such as ("rules", 3, "window")."""
    return Fault(place(path), message, right, path)


def place(path: Path) -> str:
    """`rules[3].filter.model[0]`."""
    where = ""
    for step in path:
        where += f"[{step}]" if isinstance(step, int) else f".{step}" if where else step
    return where


def _fault(error: ErrorDetails, kinds: Mapping[str, type[BaseModel]], at: Path) -> Fault:
    inside = error["loc"]
    model = kinds.get(str(inside[0])) if inside else None
    if model is not None:
        inside = inside[1:]
    path, given = (*at, *inside), error["input"]
    context: dict[str, Any] = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, FieldError):
        return fault((*path, *cause.at), cause.message, cause.right)
    match error["type"]:
        case "union_tag_not_found":
            return fault((*at, "kind"), "is missing", f"there are {', '.join(kinds)}")
        case "union_tag_invalid":
            tag = str(context["tag"])
            return fault((*at, "kind"), f"there is no kind {_SHORT.repr(tag)}", nearest(tag, kinds))
        case "missing":
            return fault(path, "is missing", _description(model, inside))
        case "extra_forbidden":
            known = list(model.model_fields) if model is not None and len(inside) == 1 else []
            return fault(path, "there is no such field", nearest(str(path[-1]), known) if known else "")
        case "literal_error":
            known = re.findall(r"'([^']*)'", context["expected"])
            meant = given if isinstance(given, str) else ""
            return fault(path, f"{_SHORT.repr(given)} is none of its values", nearest(meant, known))
    return fault(path, error["msg"].removeprefix("Input ").rstrip("."), _description(model, inside))


def _description(model: type[BaseModel] | None, path: Path) -> str:
    if model is None or not path or path[0] not in model.model_fields:
        return ""
    return model.model_fields[str(path[0])].description or ""
