"""Which panes a rule is judged by: those of one length, of one grouping."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.time import MINUTE, SECOND, Micros
from schemas.topics import USAGE, WINDOWS

ALWAYS: Final[Micros] = -(2**62)
"""Before every pane."""
PANES: Final[Mapping[str, Micros]] = {"1s": SECOND, "1m": MINUTE}
"""The panes that rules are judged by, with their lengths."""


class PaneSeries(NamedTuple):
    """Panes of one length, of one grouping."""

    grouping: str
    pane: str

    @property
    def table(self) -> str:
        """Whose watermarks close them: `chat.windows` or `chat.usage`."""
        return USAGE.name if self.grouping == "user" else WINDOWS.name

    @property
    def length(self) -> Micros:
        """Of a pane."""
        return PANES[self.pane]
