"""What OpenAPI says of bodies that routes read themselves: their schemas, and examples."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI

_TEMPLATE: Final = "#/components/schemas/{model}"


def body(schema: str, example: Mapping[str, Any], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a JSON object as the component `schema` describes it."""
    content = {"schema": {"$ref": _TEMPLATE.format(model=schema)}, "example": example}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def describe(app: FastAPI, models: Mapping[str, Any]) -> None:
    """Add these pydantic models (or type adapters) to the description's components, under these names."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        whole = described()
        components = whole.setdefault("components", {}).setdefault("schemas", {})
        for name, model in models.items():
            if name not in components:
                make = getattr(model, "model_json_schema", None) or model.json_schema
                made = make(ref_template=_TEMPLATE)
                for inner, definition in made.pop("$defs", {}).items():
                    components.setdefault(inner, definition)
                components[name] = made
        return whole

    app.openapi = openapi  # type: ignore[method-assign]
