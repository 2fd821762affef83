"""Patterns of silences: wildcards, and no more, so that no pattern can take long.

`*` stands for any text, `?` for one character, `|` separates alternatives; all else stands for itself. A
pattern matches a whole value. Regular expressions are not taken: whoever may write one can write one that
runs for hours, and names of models are full of dots.
"""

import re
from functools import lru_cache

MOST_CHARACTERS = 1_000
MOST_ALTERNATIVES = 100

_REGULAR = re.compile(r"\.[*+]|\\|\[.*\]|\(.*\)|\^|\$$")


def fault_of(pattern: str) -> str | None:
    """What is wrong with it, in words; None where nothing is."""
    if len(pattern) > MOST_CHARACTERS:
        return f"a pattern has at most {MOST_CHARACTERS} characters, this one has {len(pattern)}"
    if pattern.count("|") >= MOST_ALTERNATIVES:
        return f"a pattern has at most {MOST_ALTERNATIVES} alternatives"
    if (found := _REGULAR.search(pattern)) is not None:
        return (
            f"patterns are wildcards, not regular expressions, and {found.group()!r} looks like one: "
            "write * for any text, ? for one character, | between alternatives, as in gpt-4*|o3"
        )
    return None


def matches(pattern: str, value: str) -> bool:
    """Whether the whole value is as the pattern says. Takes at most pattern × value steps."""
    return any(_one(alternative, value) for alternative in _alternatives(pattern))


@lru_cache(maxsize=1_000)
def _alternatives(pattern: str) -> tuple[str, ...]:
    return tuple(pattern.split("|"))


def _one(pattern: str, value: str) -> bool:
    at = here = 0
    star, resume = -1, 0
    while here < len(value):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, here
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", value[here]):
            at += 1
            here += 1
        elif star >= 0:
            # The last star takes one character more; earlier ones never need to.
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return all(sign == "*" for sign in pattern[at:])
