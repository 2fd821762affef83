"""Where a page of a list ended, so that the next one begins there: a time and an id."""

import base64
import json
from datetime import UTC, datetime
from typing import NamedTuple

from api.errors import BadParameterError
from api.times import to_time
from schemas.time import Micros, micros_of


class Cursor(NamedTuple):
    """The last entry that was answered. Lists go from the newest to the oldest, by time and then by id."""

    at: Micros
    id: str

    @classmethod
    def of(cls, at: datetime, key: str) -> str:
        """As the caller gets it: opaque."""
        text = json.dumps([micros_of(at.replace(tzinfo=at.tzinfo or UTC)), key], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """As the caller sent it back. Raises BadParameterError."""
        try:
            at, key = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if not isinstance(at, int) or not isinstance(key, str):
                raise ValueError
            to_time(at)
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise BadParameterError(
                "This is no cursor: send the `next` of the page before, as it was.", where="cursor"
            ) from None
        return cls(at, key)
