"""YAML that knows the line of everything in it, and takes nothing for what it isn't.

As in YAML 1.2, `22:00` is a text rather than 1320, `on` and `no` are texts rather than truths; and so is a
date. A key that is there twice is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.tag import Tag

from streams.alerts.errors import ProvisioningError

_QUOTE: Final = "put the operator into quotes, as in operator: '>=', or write at least"
_TEXT: Final = Tag(suffix="tag:yaml.org,2002:str")
_TEXTS: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class Position(NamedTuple):
    """Where something is in a file; both count from 1."""

    line: int
    column: int


class _Resolver(VersionedResolver):
    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        tag = super().resolve(kind, value, implicit)
        return _TEXT if str(tag) in _TEXTS and implicit[0] else tag


class _Constructor(SafeConstructor):
    def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
        if not isinstance(key_node, ScalarNode):
            raise MarkedYAMLError(problem="found unhashable key", problem_mark=key_node.start_mark)
        if key in mapping:
            raise MarkedYAMLError(problem=f"{key!r} is there twice", problem_mark=key_node.start_mark)
        return True


@dataclass(frozen=True)
class Document:
    """What a file says, and where it says it."""

    data: Any
    root: Node | None

    def position(self, path: tuple[str | int, ...]) -> Position:
        """Where that is; where it isn't there, where what should hold it begins."""
        node, mark = self.root, None
        for step in path:
            if isinstance(node, MappingNode):
                found = next(((k, v) for k, v in _pairs(node) if k.value == step), None)
                if found is None:
                    break
                mark, node = found[0].start_mark, found[1]
            elif isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                mark = node.start_mark
            else:
                break
        mark = mark or (node.start_mark if node is not None else None)
        return Position(1, 1) if mark is None else _position(mark)


def read(text: str) -> Document:
    """The one document of a file. Raises ProvisioningError, with the line where there is one."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Constructor = _Resolver, _Constructor
    try:
        root = yaml.compose(text)
        return Document(None if root is None else yaml.constructor.construct_document(root), root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(filter(None, (error.context, error.problem)))
        raise ProvisioningError(
            message or "this is no YAML",
            None if mark is None else _position(mark),
            _QUOTE if "block scalar" in message else "",
        ) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise ProvisioningError(f"this is no YAML: {error}") from error


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _pairs(node: MappingNode) -> Iterator[tuple[Node, Node]]:
    """The later of what a merge (`<<`) has put before, and of what is written out, comes first."""
    pairs: list[tuple[Node, Node]] = node.value
    return reversed(pairs)
