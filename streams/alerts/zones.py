"""Time zones that rules name."""

from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

from streams.alerts.errors import FieldError


def _known(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise FieldError(f"there is no time zone {name!r}", "write one as in Europe/Berlin") from error


ZoneName = Annotated[str, AfterValidator(_known)]
"""A name of the IANA database, such as Europe/Berlin."""
