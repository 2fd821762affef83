"""Who asks: whether the caller holds the admin key."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.access.guard import Guard

_BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="admin key",
    description="The admin key, as it was printed at the first start: `cg_…`.",
)
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]

WhoChecks = Callable[..., Awaitable[str]]


def admin(guard: Guard) -> WhoChecks:
    """A dependency that lets only those through who hold the key; it says who, as far as that is known."""

    async def check(request: Request, _: Bearer) -> str:
        address = _address(request)
        await guard.check(request.headers.get("authorization"), address)
        return f"admin key, from {address}"

    return check


def whether_admin(guard: Guard) -> Callable[..., Awaitable[bool]]:
    """A dependency that says whether the caller holds the key. A wrong key is refused as ever."""

    async def check(request: Request, _: Bearer) -> bool:
        if "authorization" not in request.headers:
            return False
        await guard.check(request.headers["authorization"], _address(request))
        return True

    return check


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
