"""What the documentation names is there: files, modules, links, make's targets; and the table of topics."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.topics import TOPICS, Topic

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench/README.md"]
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
_OF_A_PACKAGE = "(?:api|bench|cli|clients|infra|schemas|sdk|sinks|streams|tests|traffic)"
_PATH = re.compile(rf"`({_OF_A_PACKAGE}/[\w./-]*)`")
_FILE = re.compile(r"`([\w./-]+/[\w.-]+\.py)`")
_MODULE = re.compile(rf"`({_OF_A_PACKAGE}(?:\.\w+)+)`")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)")
_TARGET = re.compile(r"\bmake ([a-z-]+)")
_PLACEHOLDER = "NNNN"
_DAY_MS = 24 * 3600 * 1000


@pytest.fixture(params=PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_paths_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    named = {*_PATH.findall(text), *_FILE.findall(text)}
    missing = [path for path in named if _PLACEHOLDER not in path and not (ROOT / path).exists()]
    assert not missing, missing


def test_modules_that_are_named_exist(page: Path) -> None:
    missing = [name for name in _MODULE.findall(page.read_text()) if not _is_module(name)]
    assert not missing, missing


def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing, missing


def test_make_has_the_targets_that_are_named(page: Path) -> None:
    # Between backticks, or a line of a block: elsewhere `make` is an English word.
    text = "\n".join(re.findall(r"`[^`\n]*`|^make .*$", page.read_text(), re.MULTILINE))
    assert set(_TARGET.findall(text)) <= TARGETS


def test_the_table_of_topics_has_all_as_they_are() -> None:
    rows = dict(_rows((ROOT / "docs/architecture.md").read_text()))
    assert rows == {
        topic.name: (topic.record, "N" if topic.follows_source else "1", _kept(topic)) for topic in TOPICS
    }


def _is_module(name: str) -> bool:
    """Whether it is a module or a package, or a name in one."""
    module = ROOT.joinpath(*name.split("."))
    if module.is_dir() or module.with_suffix(".py").exists():
        return True
    within = module.parent / "__init__.py" if module.parent.is_dir() else module.parent.with_suffix(".py")
    return within.exists() and re.search(rf"\b{module.name}\b", within.read_text()) is not None


def _rows(text: str) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Of the table of topics: name, and record, partitions, how it is kept."""
    for line in text.splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("| `chat.") and len(cells) == 6:
            name, record, partitions, _, _, kept = cells
            yield name, (record, partitions, kept)


def _kept(topic: Topic) -> str:
    if topic.config["cleanup.policy"] == "compact":
        return "compacted"
    ms = int(topic.config["retention.ms"])
    return f"{ms // _DAY_MS} days" if ms % _DAY_MS == 0 else f"{ms // 3_600_000} hours"
