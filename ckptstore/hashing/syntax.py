"""What a piece of Python says, as plain data that is the same in every Python version.

Every node is a dict of its kind and its fields that are not empty, so a field that a later Python adds, and leaves
empty for old code, changes nothing. Left out is all that does not run: positions, comments, docstrings and other bare
constants, `pass`, annotations, type parameters and aliases.
"""

from __future__ import annotations

import ast
from typing import Any

_SILENT_FIELDS = frozenset(
    {"annotation", "returns", "type_comment", "type_params", "type_ignores", "ctx", "kind", "simple"}
)
_SILENT_STATEMENTS = frozenset({"Pass", "TypeAlias"})


def plain_syntax(node: ast.AST) -> dict[str, Any]:
    """Return the node and all below it as dicts, lists and constants."""
    if isinstance(node, ast.AnnAssign) and node.value:
        return {"node": "Assign", "targets": [plain_syntax(node.target)], "value": plain_syntax(node.value)}
    if isinstance(node, ast.JoinedStr):
        return {"node": "JoinedStr", "values": _plain_list(_joined(node.values))}
    if isinstance(node, ast.Constant):
        return {"node": "Constant", "value": _plain_constant(node.value)}
    kept = {name: value for name, value in ast.iter_fields(node) if name not in _SILENT_FIELDS}
    plain = {name: _plain_field(value) for name, value in kept.items()}
    said = {name: value for name, value in plain.items() if value is not None and value != []}
    return {"node": type(node).__name__, **said}


def _plain_field(value: object) -> object:
    if isinstance(value, list):
        return _plain_list(value)
    return plain_syntax(value) if isinstance(value, ast.AST) else value


def _plain_list(items: list[Any]) -> list[Any]:
    return [_plain_field(item) for item in items if not _is_silent(item)]


def _is_silent(item: object) -> bool:
    if isinstance(item, ast.Expr):
        return isinstance(item.value, ast.Constant)
    if isinstance(item, ast.AnnAssign):
        return item.value is None
    return type(item).__name__ in _SILENT_STATEMENTS


def _plain_constant(value: Any) -> object:
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    return ["..."] if value is ... else value


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    # Python versions differ in where they cut the text of an f-string.
    joined: list[ast.expr] = []
    for value in values:
        text = _text_of(value)
        before = _text_of(joined[-1]) if joined else None
        if text is not None and before is not None:
            joined[-1] = ast.Constant(before + text)
        elif text != "":
            joined.append(value)
    return joined


def _text_of(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
