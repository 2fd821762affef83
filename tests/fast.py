"""`--fast`: the tests that need nothing but Python, and no more than a few seconds each (`make test-fast`).

There is no list of them. What asks for a Kafka or a ClickHouse, has a longer time-out than the ordinary one,
or is marked `slow` or `alone` is deselected; what starts a process is skipped where it starts one. How many
were left out, and why, is said at the end.
"""

import sys
from collections import Counter
from typing import Any, Final

import hypothesis
import pytest

_SERVERS: Final = frozenset({"kafka", "fresh_kafka", "clickhouse"})
_PROCESS: Final = "starts a process"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out what needs servers, processes or time")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes several seconds: make test-fast leaves it out")
    if config.getoption("--fast"):
        config.pluginmanager.register(Fast(), "fast")


def why_not(item: pytest.Item, ordinary: float) -> str | None:
    """Why a test isn't a fast one, as far as can be seen before it runs; `ordinary` is the time-out in s."""
    if servers := _SERVERS.intersection(getattr(item, "fixturenames", ())):
        return "needs " + min(servers).removeprefix("fresh_")
    timeout = item.get_closest_marker("timeout")
    if timeout is not None and float(timeout.args[0]) > ordinary:
        return "may take long"
    return next((f"is marked {name}" for name in ("slow", "alone") if item.get_closest_marker(name)), None)


def _with_few_examples(item: pytest.Item) -> None:
    """A property gets no more examples than the profile has, also where its test asks for more."""
    most = hypothesis.settings.default.max_examples if hypothesis.settings.default else 100
    test = getattr(item, "obj", None)
    held = [(test, "_hypothesis_internal_use_settings"), (getattr(item, "cls", None), "settings")]
    for holder, name in held:
        given = getattr(holder, name, None)
        if isinstance(given, hypothesis.settings) and given.max_examples > most:
            few = hypothesis.settings(given, max_examples=most, phases=hypothesis.settings.default.phases)
            setattr(getattr(holder, "__func__", holder), name, few)


class Fast:
    """Leaves out what isn't fast, and counts it."""

    def __init__(self) -> None:
        self._left_out: Counter[str] = Counter()
        self._testing = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: Any) -> None:
        if self._testing and event == "subprocess.Popen":
            pytest.skip(_PROCESS)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        ordinary = float(config.getini("timeout"))
        reasons = [why_not(item, ordinary) for item in items]
        self._left_out.update(reason for reason in reasons if reason is not None)
        config.hook.pytest_deselected(
            items=[item for item, reason in zip(items, reasons, strict=True) if reason is not None]
        )
        items[:] = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
        for item in items:
            _with_few_examples(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Any:
        self._testing = True
        try:
            return (yield)
        finally:
            self._testing = False

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):  # one of several workers; all have left out the same
            session.config.workeroutput["left_out"] = dict(self._left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._left_out = Counter(getattr(node, "workeroutput", {}).get("left_out", self._left_out))

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        if report.skipped and _PROCESS in str(report.longrepr):
            return "left out", "", "LEFT OUT"
        return None

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        left_out = self._left_out + Counter({_PROCESS: len(terminalreporter.stats.get("left out", ()))})
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common() if count)
        terminalreporter.write_line(f"fast: left out {sum(left_out.values())} tests: {told or 'none'}")
