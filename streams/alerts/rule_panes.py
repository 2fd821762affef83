"""The panes of a rule's series that a partition holds, with the windows that end with them."""

from typing import NamedTuple

from schemas.time import Micros
from streams.alerts.pane_series import PaneSeries
from streams.alerts.shares import Shares
from streams.alerts.window import JudgedPane, Window


class RulePanes(NamedTuple):
    """As `window.HeldPanes`; `span` is the length of the rule's window."""

    shares: Shares
    series: PaneSeries
    span: Micros

    def ending_at(self, end: Micros) -> JudgedPane:
        """The pane that ends then, with the window that ends with it."""
        shares, series, start = self.shares, self.series, end - self.span
        whole_from = shares.whole_from(series)
        window = Window(
            start,
            end,
            shares.window(series, start, end),
            shares.watermarks.parts(series.table, end),
            max(shares.partitions, 1),
            whole=start + series.length > whole_from,
            find_sources=lambda: shares.sources(series, start, end),
        )
        return JudgedPane(window, whole_from, lambda: shares.window(series, end - series.length, end))

    def ends(self, after: Micros, upto: Micros) -> list[Micros]:
        """The ends of the panes that have rows and end after `after`, up to `upto`, in order."""
        return self.shares.ends(self.series, after, upto)
