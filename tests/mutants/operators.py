"""What may be wrong with a module: every change of one place that a mistake could be."""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

_SWAPPED: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_OF_TYPES: Final = {"cast", "TypeVar", "ParamSpec"}
"""Calls whose first argument is for type checkers."""
_CALLS_SWAPPED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    line: int
    before: str
    """The source of the changed expression or statement."""
    after: str
    source: str
    """The whole module, changed."""
    left_out: str | None = None
    """The argument of a call, when that is the change."""

    @property
    def name(self) -> str:
        """Says which change it is, wherever its line has moved to."""
        before, after = (" ".join(each.split()) for each in (self.before, self.after))
        return f"{before} -> {after}" if self.left_out is None else f"without {self.left_out}"


def mutants(source: str) -> list[Mutant]:
    """All changes of a module, by line. Annotations, docstrings, imports and f-strings stay as they are,
    and so do types that are given as arguments."""
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    raw = source.encode()
    found: dict[str, Mutant] = {}
    for node, changed in _changes(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before, after = raw[begin:end].decode(), ast.unparse(changed)
        if isinstance(node, ast.expr):
            after = f"({after})"
        whole = (raw[:begin] + after.encode() + raw[end:]).decode()
        found.setdefault(whole, Mutant(node.lineno, before, after, whole, _left_out(node, changed)))
    return sorted(found.values(), key=lambda each: each.line)


def _left_out(node: ast.AST, changed: ast.AST) -> str | None:
    """The keyword argument that is in one call and not in the other, as it stands there."""
    if isinstance(node, ast.Call) and isinstance(changed, ast.Call):
        for each in node.keywords:
            if each not in changed.keywords:
                return f"{each.arg}={ast.unparse(each.value)}"
    return None


Change = tuple[ast.stmt | ast.expr, ast.AST]


def _changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.stmt):
        yield from _of_statement(node)
    if isinstance(node, ast.expr):
        yield from _of_expression(node)
    for child in _mutable(node):
        yield from _changes(child)


def _mutable(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "bases", "type_params", "type_comment"}:
            continue
        children = value if isinstance(value, list) else [value]
        if name == "args" and isinstance(node, ast.Call) and _is_of_types(node):
            children = children[1:]
        for child in children:
            if isinstance(child, ast.AST) and not _is_docstring(child):
                yield child


def _is_of_types(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id in _OF_TYPES


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _with(node: Any, **changes: object) -> Any:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed


def _of_statement(node: ast.stmt) -> Iterator[Change]:
    match node:
        case ast.AugAssign():
            yield node, ast.Pass()
            swapped = _SWAPPED.get(type(node.op))
            if swapped:
                yield node, _with(node, op=swapped())
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
            yield node, ast.Pass()
        case ast.Assign() if any(not isinstance(target, ast.Name) for target in node.targets):
            yield node, ast.Pass()
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield node, _with(node, value=ast.Constant(None))
        case ast.Break():
            yield node, ast.Continue()
        case ast.Continue():
            yield node, ast.Break()


def _of_expression(node: ast.expr) -> Iterator[Change]:
    match node:
        case ast.Compare():
            for at, operator in enumerate(node.ops):
                yield node, _with(node, ops=[*node.ops[:at], _SWAPPED[type(operator)](), *node.ops[at + 1 :]])
        case ast.BinOp() if type(node.op) in _SWAPPED:
            yield node, _with(node, op=_SWAPPED[type(node.op)]())
        case ast.BoolOp():
            yield node, _with(node, op=_SWAPPED[type(node.op)]())
            for at in range(len(node.values)):
                left = [*node.values[:at], *node.values[at + 1 :]]
                yield node, left[0] if len(left) == 1 else _with(node, values=left)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield node, node.operand
        case ast.IfExp():
            yield node, node.body
            yield node, node.orelse
        case ast.Constant(value=bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, ast.Constant(value + 1)
            yield node, ast.Constant(value - 1)
        case ast.Constant(value=str() as value):
            yield node, ast.Constant(f"{value}X")
        case ast.Constant(value=bytes() as octets):
            yield node, ast.Constant(octets + b"X")
        case ast.Call():
            yield from _of_call(node)
        case ast.Slice():
            pass
        case ast.Subscript(slice=ast.Slice() as bounds):
            for name in ("lower", "upper", "step"):
                if getattr(bounds, name) is not None:
                    yield node, _with(node, slice=_with(bounds, **{name: None}))
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            for at, each in enumerate(node.generators):
                if each.ifs:
                    changed = [*node.generators]
                    changed[at] = _with(each, ifs=[])
                    yield node, _with(node, generators=changed)


def _of_call(node: ast.Call) -> Iterator[Change]:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLS_SWAPPED:
        yield node, _with(node, func=ast.Name(_CALLS_SWAPPED[node.func.id]))
    for at, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield node, _with(node, keywords=[*node.keywords[:at], *node.keywords[at + 1 :]])


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
