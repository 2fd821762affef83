"""Which panes a rule is judged by: those of one length, of one grouping."""

from typing import Final, NamedTuple

from schemas.time import Micros
from schemas.topics import WINDOWS
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.panes import JUDGED

ALWAYS: Final[Micros] = -(2**62)
"""Before every pane."""


class PaneSeries(NamedTuple):
    """Panes of one length, of one grouping."""

    grouping: str
    pane: str

    @property
    def table(self) -> str:
        """Whose watermarks close them: `chat.windows` or `chat.usage`."""
        return GROUPINGS[self.grouping].table.name if self.grouping in GROUPINGS else WINDOWS.name

    @property
    def length(self) -> Micros:
        """Of a pane."""
        return JUDGED[self.pane].length
