"""Who asks, as dependencies of routes: whether the caller holds the admin key."""

from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.dependencies import GuardDep

_BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="admin key",
    description="The admin key, as it was printed at the first start: `cg_…`.",
)
_Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]


async def _admin(request: Request, guard: GuardDep, _: _Bearer) -> str:
    address = _address(request)
    await guard.check(request.headers.get("authorization"), address)
    return f"admin key, from {address}"


async def _is_admin(request: Request, guard: GuardDep, _: _Bearer) -> bool:
    if "authorization" not in request.headers:
        return False
    await guard.check(request.headers["authorization"], _address(request))
    return True


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


AdminDep = Annotated[str, Depends(_admin)]
"""Lets those through alone who hold the key; says who, as far as that is known."""
IsAdminDep = Annotated[bool, Depends(_is_admin)]
"""Whether the caller holds the key. A wrong key is refused as ever."""
