"""Revisions over HTTP: `ETag` says which one was read, `If-Match` which one is to be replaced."""

import re
from typing import Annotated, Final

from fastapi import Header

from api.errors import BadParameterError, ConditionError

_REVISION: Final = re.compile(r'(?:W/)?"?([0-9]{1,9})"?')

IfMatch = Annotated[
    str | None,
    Header(
        description='The revision that is to be changed, as the header `ETag` gave it: `"3"`. `*` takes any. '
        "When there is another one by now, the answer is 412.",
        examples=['"3"'],
    ),
]


def etag(revision: int) -> dict[str, str]:
    """The header that states a revision."""
    return {"ETag": f'"{revision}"'}


def expected(if_match: str | None) -> int | None:
    """The revision in `If-Match`; None takes any. Raises BadParameterError."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _REVISION.fullmatch(if_match.strip())
    if match is None:
        raise BadParameterError(
            f'{if_match!r} is no revision: send back what the header ETag said, such as "3".',
            where="If-Match",
        )
    return int(match[1])


def required(if_match: str | None) -> int | None:
    """As `expected`, and it must have been sent. Raises ConditionError when it was not."""
    if if_match is None:
        raise ConditionError(
            "Send the header If-Match with the revision that you read (its ETag), so that nobody else's "
            "change gets lost; `If-Match: *` replaces whatever is there.",
            where="If-Match",
        )
    return expected(if_match)
