"""One method of a class: its digest, what it reaches through `self`, and what it stores there."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial, partialmethod
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from ckptstore.hashing.encoding import digest
from ckptstore.hashing.source import Definition, definition_of
from ckptstore.hashing.syntax import plain_syntax

SELF = "self"
SUPER = "super()"

_CODE: tuple[type, ...] = (
    FunctionType,
    MethodType,
    staticmethod,
    classmethod,
    property,
    cached_property,
    partial,
    partialmethod,
)


@dataclass(frozen=True, slots=True)
class Method:
    """What the source of a method says.

    Attributes:
        digest: of its syntax.
        reached: pairs of where it looks, SELF, SUPER or the name of what may be a class, and the attribute.
        stored: the same pairs for the attributes that it sets.
    """

    digest: str
    reached: frozenset[tuple[str, str]]
    stored: frozenset[tuple[str, str]]


_seen: WeakKeyDictionary[FunctionType, tuple[CodeType, Method | None]] = WeakKeyDictionary()


def read_method(function: FunctionType) -> Method | None:
    """Return what the source of a function says, or None where it is not at hand; read once, at first sight."""
    code, method = _seen.get(function, (None, None))
    if code is not function.__code__:
        definition = definition_of(function)
        method = _describe(definition) if definition else None
        _seen[function] = function.__code__, method
    return method


def function_behind(value: object, name: str) -> FunctionType | None:
    """Return the function that was defined in a class under that name, or None where there is none to find."""
    unbound = _unbound(value)
    if not callable(unbound):
        return None
    function = inspect.unwrap(unbound)
    if not isinstance(function, FunctionType):
        return None
    enclosed = [one for one in _enclosed(function) if one.__name__ == name]
    return enclosed[0] if enclosed and function.__name__ != name else function


def is_method(value: object) -> bool:
    """Say whether a class attribute is code, and not data."""
    return isinstance(value, _CODE) or hasattr(value, "__wrapped__")


def _unbound(value: Any) -> Any:
    while True:
        if isinstance(value, property):
            value = value.fget
        elif isinstance(value, cached_property | partial | partialmethod):
            value = value.func
        elif isinstance(value, staticmethod | classmethod | MethodType):
            value = value.__func__
        else:
            return value


def _enclosed(function: FunctionType) -> Iterator[FunctionType]:
    # A decorator that does not use functools.wraps keeps the method in its closure.
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        if isinstance(content, FunctionType):
            yield content


def _describe(definition: Definition) -> Method | None:
    first = _own_name(definition)
    reached: set[tuple[str, str]] = set()
    stored: set[tuple[str, str]] = set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Attribute) and (where := _where(node.value, first)):
            (reached if isinstance(node.ctx, ast.Load) else stored).add((where, node.attr))
    try:
        said = digest(plain_syntax(definition))
    except RecursionError:
        return None
    return Method(said, frozenset(reached), frozenset(stored))


def _own_name(definition: Definition) -> str:
    decorators = [] if isinstance(definition, ast.Lambda) else definition.decorator_list
    is_static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in decorators)
    arguments = [*definition.args.posonlyargs, *definition.args.args]
    return arguments[0].arg if arguments and not is_static else ""


def _where(node: ast.expr, first: str) -> str | None:
    match node:
        case ast.Name(id=name):
            return SELF if name == first else name
        case ast.Call(func=ast.Name(id="super")):
            return SUPER
        case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]) if name == first:
            return SELF
        case ast.Attribute(value=ast.Name(id=name), attr="__class__") if name == first:
            return SELF
    return None
