"""Tokens and cost of model calls, as they add up."""

from collections.abc import Mapping
from typing import Any, TypedDict

from chatgauge import arguments
from chatgauge.notices import Notices


class Tokens(TypedDict, total=False):
    """What a model call used. None is as good as left out: unknown.

    `prompt_tokens` and `completion_tokens` are totals; the others are parts of them.
    """

    prompt_tokens: int | None
    """All of the prompt's, with those read from and written to the provider's cache."""
    cached_tokens: int | None
    """Those of prompt_tokens read from the provider's cache."""
    cache_write_tokens: int | None
    """Those of prompt_tokens written to the provider's cache, one-hour ones included."""
    cache_write_1h_tokens: int | None
    """Those of cache_write_tokens written for an hour."""
    prompt_audio_tokens: int | None
    """Those of prompt_tokens that are audio."""
    completion_tokens: int | None
    """All of the answer's, with those spent on reasoning."""
    reasoning_tokens: int | None
    """Those of completion_tokens spent on reasoning."""
    completion_audio_tokens: int | None
    """Those of completion_tokens that are audio."""


_NAMES = frozenset(Tokens.__annotations__)
_PARTS = (
    ("cached_tokens", "prompt_tokens"),
    ("cache_write_tokens", "prompt_tokens"),
    ("cache_write_1h_tokens", "cache_write_tokens"),
    ("cache_write_1h_tokens", "prompt_tokens"),
    ("prompt_audio_tokens", "prompt_tokens"),
    ("reasoning_tokens", "completion_tokens"),
    ("completion_audio_tokens", "completion_tokens"),
)


def tokens_of(given: Mapping[str, Any], notices: Notices) -> dict[str, int]:
    """What can be taken of the arguments of `usage`; the rest is counted."""
    found = {}
    for name, value in given.items():
        if name not in _NAMES:
            arguments.refuse([name], notices)
        elif value is not None and (tokens := arguments.whole(value, name, notices)) is not None:
            found[name] = tokens
    return found


class Usage:
    """The tokens and the cost of the model calls of one request, or of one span."""

    __slots__ = ("_calls", "_charges")

    def __init__(self) -> None:
        # Added up at the end: spans in several threads may tell the same request at once.
        self._calls: list[Mapping[str, int]] = []
        self._charges: list[int] = []

    def add(self, tokens: Mapping[str, int]) -> None:
        """One model call more (`tokens_of`)."""
        self._calls.append(tokens)

    def charge(self, nano_usd: int) -> None:
        """What one model call more was charged with."""
        self._charges.append(nano_usd)

    def put_into(self, record: dict[str, Any], notices: Notices) -> None:
        """The fields of the record; a part that exceeds its whole is left out, and counted."""
        used: dict[str, int] = {}
        for call in self._calls:
            for name, tokens in call.items():
                used[name] = used.get(name, 0) + tokens
        for part, whole in _PARTS:
            if whole in used and used.get(part, 0) > used[whole]:
                del used[part]
                notices.count(
                    arguments.INVALID, f"{part} is more than {whole}, which must include it, and was left out"
                )
        record |= used
        if self._charges:
            record["cost_nano_usd"] = sum(self._charges)
