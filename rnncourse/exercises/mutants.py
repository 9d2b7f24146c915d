"""Small wrong changes to a function, made in its syntax tree: one change per mutant."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

SWAPS: dict[type[ast.operator], list[type[ast.operator]]] = {
    ast.Add: [ast.Sub, ast.Mult],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult],
    ast.MatMult: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.FloorDiv: [ast.Mult, ast.Div],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
}
COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
NAMES = {
    "zeros": ["ones"],
    "ones": ["zeros"],
    "empty": ["zeros", "ones"],
    "min": ["max"],
    "max": ["min"],
    "minimum": ["maximum"],
    "maximum": ["minimum"],
    "sum": ["mean", "max"],
    "mean": ["sum", "max"],
    "argmax": ["argmin"],
    "argmin": ["argmax"],
    "exp": ["abs"],
    "cumsum": ["cumprod"],
    "cumprod": ["cumsum"],
    "hstack": ["vstack"],
    "any": ["all"],
    "all": ["any"],
    "floor": ["ceil"],
    "ceil": ["floor"],
}


def mutants(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield descriptions and changed copies of a function; the body without docstring is changed.

    Parameters
    ----------
    function : ast.FunctionDef
        Is not modified.

    Yields
    ------
    str
        Line and change in words.
    ast.FunctionDef

    Examples
    --------
    >>> tree = ast.parse("def f(a, b):\\n    return a - b").body[0]
    >>> for change, mutant in mutants(tree):
    ...     print(ast.unparse(mutant.body))
    return None
    return a + b
    return a
    return b
    return b - a
    return b - b
    return a - a
    """
    seen = {ast.unparse(function)}
    names = _local_names(function)
    nodes = list(ast.walk(function))
    parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
    for position, node in enumerate(nodes):
        if not _inside_body(node, function, parents):
            continue
        for words, change in _changes(node, names):
            mutant = copy.deepcopy(function)
            target = list(ast.walk(mutant))[position]
            _replace(mutant, target, change(target))
            ast.fix_missing_locations(mutant)
            text = ast.unparse(mutant)
            if text not in seen:
                seen.add(text)
                yield f"line {getattr(node, 'lineno', 0)}: {words}", mutant


def _local_names(function: ast.FunctionDef) -> list[str]:
    arguments = [a.arg for a in function.args.args]
    stored = [
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    return list(dict.fromkeys(arguments + stored))


def _inside_body(node: ast.AST, function: ast.FunctionDef, parents: dict[ast.AST, ast.AST]) -> bool:
    """Say whether `node` belongs to the body and not to the signature or a docstring."""
    body = function.body
    first = body[0] if body else None
    docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    top = node
    while top in parents and parents[top] is not function:
        top = parents[top]
    return top in body and not (docstring and top is first)


def _replace(root: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for node in ast.walk(root):
        for name, value in ast.iter_fields(node):
            if value is old:
                setattr(node, name, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                setattr(node, name, [new if item is old else item for item in value])
                return


Change = tuple[str, Callable[[Any], ast.AST]]


def _changes(node: ast.AST, names: list[str]) -> Iterator[Change]:
    """Yield the changes that one node allows."""
    if isinstance(node, ast.stmt):
        yield from _statement_changes(node)
    elif isinstance(node, ast.BinOp):
        for other in SWAPS.get(type(node.op), []):
            yield f"{type(node.op).__name__} → {other.__name__}", _with("op", other())
        yield "left operand only", lambda n: n.left
        yield "right operand only", lambda n: n.right
        if isinstance(node.op, ast.Sub | ast.Div | ast.Pow | ast.MatMult):
            yield "operands exchanged", _exchange_operands
    elif isinstance(node, ast.UnaryOp):
        yield "operator dropped", lambda n: n.operand
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for comparison in COMPARISONS.get(type(node.ops[0]), []):
            yield f"comparison → {comparison.__name__}", _with("ops", [comparison()])
    elif isinstance(node, ast.BoolOp):
        yield "and ↔ or", _with("op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant):
        yield from _constant_changes(node)
    elif isinstance(node, ast.IfExp):
        yield "first branch", lambda n: n.body
        yield "second branch", lambda n: n.orelse
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)
    elif isinstance(node, ast.Attribute):
        if node.attr == "T":
            yield "transpose dropped", lambda n: n.value
        for name in NAMES.get(node.attr, []):
            yield f"{node.attr} → {name}", _with("attr", name)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield from _subscript_changes(node)
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) > 1:
        for i in range(len(node.elts) - 1):
            yield f"items {i} and {i + 1} exchanged", _exchange_items(i)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        for other_name in [name for name in names if name != node.id][:6]:
            yield f"{node.id} → {other_name}", _with("id", other_name)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield "filter dropped", _with("ifs", [])


def _statement_changes(node: ast.stmt) -> Iterator[Change]:
    if isinstance(node, ast.Return):
        yield "returns None", lambda n: ast.Return(ast.Constant(None))
        return
    if not isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom):
        yield "statement deleted", lambda n: ast.Pass()
    if isinstance(node, ast.AugAssign):
        yield "= for augmented assignment", lambda n: ast.Assign([n.target], n.value)
        for other in SWAPS.get(type(node.op), []):
            yield f"{type(node.op).__name__} → {other.__name__}", _with("op", other())
    if isinstance(node, ast.If | ast.While):
        yield "condition negated", lambda n: _set(n, "test", ast.UnaryOp(ast.Not(), n.test))
    if isinstance(node, ast.If):
        yield "always", _with("test", ast.Constant(True))
        yield "never", _with("test", ast.Constant(False))
    if isinstance(node, ast.For):
        yield "stops after one round", lambda n: _set(n, "body", [*n.body, ast.Break()])
    if isinstance(node, ast.Continue):
        yield "break for continue", lambda n: ast.Break()
    if isinstance(node, ast.Break):
        yield "continue for break", lambda n: ast.Continue()


def _constant_changes(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield "negated", _with("value", not value)
    elif isinstance(value, int):
        for new in (value + 1, value - 1):
            yield f"{value} → {new}", _with("value", new)
    elif isinstance(value, float):
        for real in (0.0, 2 * value + 1.0, -value):
            yield f"{value} → {real}", _with("value", real)


def _call_changes(node: ast.Call) -> Iterator[Change]:
    if node.args and not isinstance(node.args[0], ast.Starred):
        yield "call dropped, first argument kept", lambda n: n.args[0]
    if isinstance(node.func, ast.Attribute) and not isinstance(node.func.value, ast.Name):
        yield "method call dropped", lambda n: n.func.value
    for i in range(len(node.keywords)):
        yield f"keyword {node.keywords[i].arg} dropped", _drop_keyword(i)
    for i in range(len(node.args) - 1):
        yield f"arguments {i} and {i + 1} exchanged", _exchange_arguments(i)
    if isinstance(node.func, ast.Name):
        for name in NAMES.get(node.func.id, []):
            yield f"{node.func.id} → {name}", _with("func", ast.Name(name, ast.Load()))
        if node.func.id == "range":
            end = len(node.args) > 1
            yield (
                "range ends one earlier",
                lambda n: _set(n, "args", _minus_one(n.args, int(end))),
            )
            if not end:
                yield "range starts at 1", lambda n: _set(n, "args", [ast.Constant(1), *n.args])


def _subscript_changes(node: ast.Subscript) -> Iterator[Change]:
    yield "subscript dropped", lambda n: n.value
    if isinstance(node.slice, ast.Name):
        for step in (-1, 1):
            yield f"index moved by {step}", _move_index(step)
    if isinstance(node.slice, ast.Slice):
        if node.slice.lower is not None:
            yield "slice without start", lambda n: _set(n, "slice", _set(n.slice, "lower", None))
        if node.slice.upper is not None:
            yield "slice without end", lambda n: _set(n, "slice", _set(n.slice, "upper", None))
        if node.slice.step is not None:
            yield "slice without step", lambda n: _set(n, "slice", _set(n.slice, "step", None))


def _set(node: Any, field: str, value: object) -> Any:
    setattr(node, field, value)
    return node


def _with(field: str, value: object) -> Callable[[Any], ast.AST]:
    return lambda node: _set(node, field, value)


def _exchange_operands(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BinOp)
    node.left, node.right = node.right, node.left
    return node


def _exchange_items(i: int) -> Callable[[Any], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Tuple)
        node.elts[i], node.elts[i + 1] = node.elts[i + 1], node.elts[i]
        return node

    return change


def _exchange_arguments(i: int) -> Callable[[Any], ast.AST]:
    def change(node: ast.AST) -> ast.AST:
        assert isinstance(node, ast.Call)
        node.args[i], node.args[i + 1] = node.args[i + 1], node.args[i]
        return node

    return change


def _drop_keyword(i: int) -> Callable[[Any], ast.AST]:
    return lambda node: _set(node, "keywords", node.keywords[:i] + node.keywords[i + 1 :])


def _move_index(step: int) -> Callable[[Any], ast.AST]:
    return lambda node: _set(node, "slice", ast.BinOp(node.slice, ast.Add(), ast.Constant(step)))


def _minus_one(args: list[ast.expr], index: int) -> list[ast.expr]:
    changed = list(args)
    changed[index] = ast.BinOp(args[index], ast.Sub(), ast.Constant(1))
    return changed
