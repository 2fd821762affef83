"""What OpenAPI says of bodies that routes read themselves: their schemas, and examples."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

_TEMPLATE: Final = "#/components/schemas/{model}"


class JsonBody(dict[str, Any]):
    """`openapi_extra` of a route that takes a JSON object as `model` describes it.

    `model` is a pydantic model, or a type adapter that the description is to call `name`.
    """

    def __init__(
        self, model: Any, example: Mapping[str, Any], *, name: str | None = None, required: bool = True
    ) -> None:
        self.model = model
        self.name: str = name or model.__name__
        content = {"schema": {"$ref": _TEMPLATE.format(model=self.name)}, "example": example}
        super().__init__(requestBody={"required": required, "content": {"application/json": content}})


def describe_bodies(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Add the models of these routers' bodies to the components of the app's description."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    models = {
        route.openapi_extra.name: route.openapi_extra.model
        for route in routes
        if isinstance(route.openapi_extra, JsonBody)
    }
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
