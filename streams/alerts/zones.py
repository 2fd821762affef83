"""Time zones that rules name."""

from typing import Annotated

from pydantic import AfterValidator

from schemas.time import zone_of
from streams.alerts.errors import FieldError


def _known(name: str) -> str:
    try:
        return zone_of(name).key
    except ValueError as error:
        raise FieldError(str(error), "write one as in Europe/Berlin") from error


ZoneName = Annotated[str, AfterValidator(_known)]
"""A name of the IANA database, such as Europe/Berlin."""
