"""One word, one meaning: `python -m tests.vocabulary` (`make check`) finds names that say nothing, and names
that are classes of different things within one package."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

PACKAGES: Final = ("api", "cli", "clients", "infra", "schemas", "sdk/src", "sinks", "streams", "traffic")
EMPTY: Final = frozenset({"common", "helper", "helpers", "manager", "misc", "util", "utils"})
"""Names of modules that say nothing of what is in them."""


def findings(root: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """What is wrong, one line each: where, and what."""
    folders = {path.parent for package in packages for path in (root / package).rglob("*.py")}
    return [line for folder in sorted(folders) for line in _of_folder(root, folder)]


def _of_folder(root: Path, folder: Path) -> Iterator[str]:
    defined: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(folder.glob("*.py")):
        if path.stem in EMPTY:
            yield f"{path.relative_to(root)}: say what is in it"
        for name, meaning in _types(ast.parse(path.read_text("utf-8"))):
            defined[name][path.name] = meaning
    for name, meanings in defined.items():
        if len(set(meanings.values())) > 1:
            yield f"{folder.relative_to(root)}: {name} is a different thing in {' and in '.join(meanings)}"


def _types(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Public classes and names of types, `Answer` or `Rows = Sequence[...]`, with what each stands for."""
    for node in module.body:
        match node:
            case ast.ClassDef(name=name):
                meaning = ast.unparse(node)
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                meaning = ast.unparse(value)
            case _:
                continue
        if name[0].isupper() and not name.isupper():
            yield name, meaning


def main() -> int:
    found = findings(Path(__file__).parents[1])
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
