"""How tests are shared out among pytest's workers (`make test`; `pytest` by hand uses none).

A module is one worker's, whole: what it starts is started once. The first worker takes the modules that
may take longest, such as those that run the product whole; the others begin at the other end. So two of
the demanding ones run at once only when nothing else is left.
"""

from collections.abc import Iterable
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController


class BothEnds(LoadFileScheduling):
    """Shares out whole modules, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def remove_node(self, node: WorkerController) -> str | None:
        """The test that the worker has ended in. It is not run again, as it would end the next one, too."""
        units = self.assigned_work[node].values()
        ended_in = next((test for unit in units for test, done in unit.items() if not done), None)
        for unit in units:
            if ended_in in unit:
                unit[ended_in] = True
        super().remove_node(node)
        return ended_in

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is not self.nodes[0]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BothEnds:
    return BothEnds(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several workers; all of them collect alike
        items[:] = longest_first(items)


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
