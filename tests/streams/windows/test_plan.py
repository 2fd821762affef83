"""A plan: which groupings are counted in which panes, by name, and apart by what they are for."""

from schemas.time import HOUR, MINUTE, SECOND
from streams.catalogue.groupings import SPACE, TOTAL
from streams.windows.panes import Pane
from streams.windows.plan import Plan

SECONDS = Pane("1s", MINUTE, SECOND, live_only=True)
MINUTES = Pane("1m", HOUR, MINUTE)
PLAN = Plan(((TOTAL, SECONDS), (TOTAL, MINUTES), (SPACE, MINUTES)), lateness=SECOND)


def test_groupings_and_panes_are_found_by_name() -> None:
    assert PLAN.groupings == {"total": TOTAL, "space": SPACE}
    assert PLAN.panes == {"1s": SECONDS, "1m": MINUTES}


def test_what_is_for_live_figures_alone_is_apart_from_what_lasts() -> None:
    assert PLAN.live == ((TOTAL, SECONDS),)
    assert PLAN.lasting == ((TOTAL, MINUTES), (SPACE, MINUTES))


def test_unless_said_otherwise_everything_is_written_at_every_step_and_imports_wait_an_hour() -> None:
    assert (PLAN.write_every, PLAN.keep_imported, PLAN.remember) == (0, HOUR, 2_000_000)
