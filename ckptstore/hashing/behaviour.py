"""The code that a module runs: its `forward`, and the methods of its class that `forward` reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

from ckptstore.errors import ConfigTypeError
from ckptstore.hashing.methods import SELF, SUPER, function_behind, is_method, read_method
from ckptstore.hashing.naming import is_of_torch
from ckptstore.hashing.plain import Reduction
from ckptstore.hashing.scalars import reduce_scalar

_NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})
_ON_INSTANCE = -1
_MAKING = frozenset({"__init__", "__new__"})


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a class runs when a module of it is called.

    Attributes:
        source: for each method that runs and was not defined by torch, the digests of its definitions from the class
            upwards, and the plain class constants that they use; None where some source is not at hand.
        methods: names of all methods that run, torch's too.
        stored: attributes that they set, which are state and not architecture.
        is_of_torch: all that runs was defined by torch.
    """

    source: dict[str, Any] | None
    methods: frozenset[str]
    stored: frozenset[str]
    is_of_torch: bool


def behaviour_of(kind: type, overrides: Mapping[str, Any] = _NO_OVERRIDES) -> Behaviour:
    """Follow `forward` of a class through everything that it reaches by `self`, `super()` or a base class's name.

    Args:
        kind: the class.
        overrides: functions that stand on the instance, in place of the class's own.
    """
    walk = _Walk(kind, overrides)
    walk.visit(SELF, "forward", _ON_INSTANCE)
    if not is_of_torch(getattr(kind, "__call__", None)):  # noqa: B004  # its definer is asked for, not callability
        walk.visit(SELF, "__call__", _ON_INSTANCE)
    return walk.outcome()


@dataclass(slots=True)
class _Walk:
    kind: type
    overrides: Mapping[str, Any]
    readable: bool = True
    digests: dict[tuple[str, int], str] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    stored: set[str] = field(default_factory=set)
    visited: set[tuple[str, int]] = field(default_factory=set)

    def visit(self, where: str, name: str, place: int) -> None:
        """Visit an attribute as code at one place of the method resolution order would find it."""
        todo = [(where, name, place)]
        while todo:
            where, name, place = todo.pop()
            found = self._resolve(where, self._mangled(name, place), place)
            if found is None or found[:2] in self.visited:
                continue
            name, place, value = found
            self.visited.add((name, place))
            todo += [(*target, place) for target in self._enter(name, place, value)]

    def outcome(self) -> Behaviour:
        methods: dict[str, list[str]] = {}
        for (name, _), said in sorted(self.digests.items()):
            methods.setdefault(name, []).append(said)
        constants = {name: value for name, value in self.constants.items() if name not in self.stored}
        source = {"methods": methods, "constants": constants} if self.readable else None
        return Behaviour(
            source,
            frozenset(name for name, _ in self.visited),
            frozenset(self.stored),
            not self.digests and self.readable,
        )

    def _resolve(self, where: str, name: str, place: int) -> tuple[str, int, Any] | None:
        if where == SELF and name in self.overrides:
            return name, _ON_INSTANCE, self.overrides[name]
        first = self._first_place(where, place)
        for index, owner in enumerate(self.kind.__mro__):
            if index >= first and name in vars(owner):
                return name, index, vars(owner)[name]
        return None

    def _first_place(self, where: str, place: int) -> int:
        if where == SELF:
            return 0
        order = self.kind.__mro__
        if where == SUPER:
            return place + 1
        return next((index for index, owner in enumerate(order) if owner.__name__ == where), len(order))

    def _mangled(self, name: str, place: int) -> str:
        if place == _ON_INSTANCE or not name.startswith("__") or name.endswith("__"):
            return name
        return f"_{self.kind.__mro__[place].__name__.lstrip('_')}{name}"

    def _enter(self, name: str, place: int, value: Any) -> Iterator[tuple[str, str]]:
        if not is_method(value):
            self._keep_constant(name, place, value)
            return
        function = function_behind(value, name)
        if function is None:
            self.readable = self.readable and is_of_torch(value)
            return
        if is_of_torch(function):
            yield from ((SELF, attribute) for attribute in function.__code__.co_names if attribute not in _MAKING)
            return
        method = read_method(function)
        if method is None:
            self.readable = False
            return
        self.digests[name, place] = method.digest
        owners = {SELF, *(owner.__name__ for owner in self.kind.__mro__)}
        self.stored |= {attribute for owner, attribute in method.stored if owner in owners}
        yield from sorted(method.reached)

    def _keep_constant(self, name: str, place: int, value: Any) -> None:
        if name.startswith("__") or not isinstance(value, str | int | float | bytes | tuple | Enum | None):
            return
        if is_of_torch(self.kind.__mro__[place]):
            return
        try:
            self.constants.setdefault(name, Reduction((reduce_scalar,)).reduce(value))
        except ConfigTypeError:
            return
