"""What the status line under the parts says."""

from cli.supervision.status import Status


def test_a_line_tells_rate_lag_and_dead_letters() -> None:
    status = Status(ready=True, awaiting=(), lag=1234, events=10, events_per_s=99.6, dead_letters=2)

    assert status.line == "100 events/s · 1,234 behind · 2 dead letters"


def test_what_is_awaited_is_named() -> None:
    status = Status(
        ready=False, awaiting=("rollup is not running",), lag=0, events=0, events_per_s=None, dead_letters=0
    )

    assert status.line == "— events/s · 0 behind · 0 dead letters · not ready: rollup is not running"
