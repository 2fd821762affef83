"""What groups note beside a committed offset, for others to see: that a partition is halted, and why.

Workers note there which owner a partition has; that is nobody else's business.
"""

from typing import Final

_HALTED: Final = "halted: "


def halted(why: str) -> str:
    """The note of a group that takes no more of a partition."""
    return f"{_HALTED}{why}"


def why_halted(note: str) -> str:
    """The note if it says that the partition is halted; else nothing."""
    return note if note.startswith(_HALTED) else ""
