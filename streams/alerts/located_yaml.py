"""YAML that knows the line of everything in it, and takes nothing for what it isn't.

As in YAML 1.2, and unlike PyYAML's own reading, `22:00` is a text rather than 1320, `on` and `no` are
texts rather than truths, and a date is a text. A key that is there twice is refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

from streams.alerts.errors import ProvisioningError

_QUOTE: Final = "put the operator into quotes, as in operator: '>=', or write at least"


class Position(NamedTuple):
    """Where something is in a file; both count from 1."""

    line: int
    column: int


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: Final = {}  # type: ignore[misc]  # of its own, not SafeLoader's


for _tag, _written, _begins in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_written})$"), list(_begins))


def _integer(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value)


def _float(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


@dataclass(frozen=True)
class Document:
    """What a file says, and where it says it."""

    data: Any
    root: yaml.Node | None

    def position(self, path: tuple[str | int, ...]) -> Position:
        """Where that is; where it isn't there, where what should hold it begins."""
        node, mark = self.root, None
        for step in path:
            if isinstance(node, yaml.MappingNode):
                found = next(((k, v) for k, v in _pairs(node) if k.value == step), None)
                if found is None:
                    break
                mark, node = found[0].start_mark, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
            else:
                break
        mark = mark or (node.start_mark if node is not None else None)
        return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)


def read(text: str) -> Document:
    """The one document of a file. Raises ProvisioningError, with the line where there is one."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return Document(None, None)
        _refuse_repeated_keys(root)
        return Document(loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = " ".join(filter(None, (error.context, error.problem)))
        raise ProvisioningError(
            told or "this is no YAML",
            None if mark is None else Position(mark.line + 1, mark.column + 1),
            _QUOTE if "block scalar" in told else "",
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProvisioningError(f"this is no YAML: {error}") from error


def _pairs(node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """The later of what a merge (`<<`) has put before, and of what is written out, comes first."""
    return reversed(node.value)


def _refuse_repeated_keys(root: yaml.Node) -> None:
    open_, seen = [root], set()
    while open_:
        node = open_.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            open_ += node.value
        elif isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                open_ += [key, value]
                if isinstance(key, yaml.ScalarNode) and key.value in keys and key.value != "<<":
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value!r} is there twice", problem_mark=key.start_mark
                    )
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
