"""`GET /`: the page of live figures, whole in itself."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

PAGE: Final = Path(__file__).parent.parent / "page"
_POLICY: Final = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

router = APIRouter(include_in_schema=False)
router.mount("/page", StaticFiles(directory=PAGE), name="page")


@router.get("/")
async def page() -> FileResponse:
    """The page; what it loads is below `/page`."""
    return FileResponse(
        PAGE / "index.html",
        headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"},
    )
