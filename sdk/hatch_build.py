"""Builds the source distribution with the files that are links in the repository.

`src/chatgauge/_avro/*.avsc` have one home, outside of this folder. A tar archive
would keep the links, which lead nowhere once unpacked; a wheel already holds the files.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LinkedFiles(BuildHookInterface[Any]):
    """Puts the linked files themselves into the archive."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for link in (root / "src/chatgauge/_avro").glob("*.avsc"):
            if link.is_symlink():
                build_data["force_include"][str(link.resolve())] = str(link.relative_to(root))
