"""The source of a function, if it is the code that runs."""

from __future__ import annotations
import __future__

import ast
import linecache
import warnings
from collections.abc import Iterator
from functools import lru_cache, reduce
from operator import or_
from types import CodeType, FunctionType
from typing import Any, TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_FUTURE_FLAGS = reduce(or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names))


def definition_of(function: FunctionType) -> Definition | None:
    """Return the definition that this function was compiled from, decorators included, or None.

    The file is compiled anew and searched for the function's very code, so None is the answer where the file was
    edited since, is of another program, or where code was generated.
    """
    code = function.__code__
    remembered = linecache.getlines(code.co_filename, function.__globals__)
    found = _find(code, remembered)
    if found is not None:
        return found
    linecache.checkcache(code.co_filename)
    current = linecache.getlines(code.co_filename, function.__globals__)
    return _find(code, current) if current != remembered else None


def _find(code: CodeType, lines: list[str]) -> Definition | None:
    if not lines:
        return None
    compiled = _compile("".join(lines), code.co_flags & _FUTURE_FLAGS)
    if compiled is None:
        return None
    codes, definitions = compiled
    wanted = _identity(code)
    same = [one for one in codes if one.co_qualname == code.co_qualname and _identity(one) == wanted]
    same.sort(key=lambda one: one.co_firstlineno != code.co_firstlineno)
    here = definitions.get((same[0].co_firstlineno, code.co_name), []) if same else []
    return here[0] if len(here) == 1 else None


@lru_cache(maxsize=4)
def _compile(text: str, flags: int) -> tuple[list[CodeType], dict[tuple[int, str], list[Definition]]] | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they were shown when the file itself was compiled
        try:
            tree = ast.parse(text)
            code = compile(tree, "<source>", "exec", flags=flags, dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):
            return None
    definitions: dict[tuple[int, str], list[Definition]] = {}
    for node in ast.walk(tree):
        if isinstance(node, Definition):
            definitions.setdefault(_place(node), []).append(node)
    return list(_codes_in(code)), definitions


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


def _place(node: Definition) -> tuple[int, str]:
    if isinstance(node, ast.Lambda):
        return node.lineno, "<lambda>"
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]), node.name


def _identity(code: CodeType) -> tuple[Any, ...]:
    # All that decides what the code does; not where it stands.
    return (
        code.co_name,
        code.co_code,
        code.co_exceptiontable,
        tuple(map(_constant_identity, code.co_consts)),
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_flags,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
    )


def _constant_identity(value: object) -> object:
    if isinstance(value, CodeType):
        return _identity(value)
    if isinstance(value, frozenset):  # the order of two equal ones differs
        return frozenset, tuple(sorted(map(repr, value)))
    return type(value), repr(value)
