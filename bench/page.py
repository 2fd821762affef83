"""`python -m bench.page`: writes the figures of `results/latest.json` into `docs/performance.md`.

What lies between `<!-- figures: NAME -->` and `<!-- end -->` is made here; a test holds the page to it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import figures
from bench.sections import section

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n)(?:.*?)(<!-- end -->)", re.DOTALL)


def filled(page: str, found: Mapping[str, Any]) -> str:
    """The page with each of its blocks made anew. Raises KeyError for a block that nothing fills."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{section(block[2], found)}\n\n{block[3]}", page)


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(), figures.read(figures.RESULTS)))


if __name__ == "__main__":
    main()
