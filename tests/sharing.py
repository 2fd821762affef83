"""How tests are shared out among pytest's workers (`make test`; `pytest` by hand uses none).

A module is one worker's, whole: what it starts is started once. The first worker takes the modules that
may take longest, such as those that run the product whole; the others begin at the other end. So two of
the demanding ones run at once only when nothing else is left.
"""

from collections.abc import Iterable

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadFileScheduling):
    """Shares out whole modules, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is not self.nodes[0]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The tests by module: first those that may take longest, as their timeouts say; else as they were."""
    items = list(items)
    patience: dict[str, float] = {}
    for item in items:
        timeout = item.get_closest_marker("timeout")
        if timeout is not None:
            patience[_module(item)] = max(patience.get(_module(item), 0.0), float(timeout.args[0]))
    return sorted(items, key=lambda item: -patience.get(_module(item), 0.0))


def _module(item: pytest.Item) -> str:
    return item.nodeid.split("::", 1)[0]
