"""Builds the source distribution with the contract's files in it.

In the repository `src/chatgauge/_avro/*.avsc` are links to the one home of the contract. A tar
archive would keep them as links, which lead nowhere once unpacked; a wheel already holds the files.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ContractFiles(BuildHookInterface[Any]):
    """Puts the linked files themselves into the archive."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        for schema in (root / "src/chatgauge/_avro").glob("*.avsc"):
            if schema.is_symlink():
                build_data["force_include"][str(schema.resolve())] = str(schema.relative_to(root))
