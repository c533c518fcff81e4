"""The constructor's arguments that a module keeps, as plain data."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from ckptstore.errors import ConfigTypeError
from ckptstore.hashing.naming import identity_of
from ckptstore.hashing.plain import Reduction
from ckptstore.hashing.scalars import UNREDUCED, reduce_scalar

# Where the tensors lie and in which mode a module runs are no part of its architecture.
_NOT_ARCHITECTURE = frozenset({"self", "device", "training"})

_PLAIN_ALREADY = frozenset({type(None), bool, int, float})


def argument_names(kind: type) -> frozenset[str]:
    """Return the names of all arguments that the constructors of a class and its bases take."""
    constructors = [vars(owner).get("__init__") for owner in kind.__mro__]
    return frozenset(name for constructor in constructors for name in _names(constructor)) - _NOT_ARCHITECTURE


def kept_arguments(module: object, names: frozenset[str]) -> dict[str, Any]:
    """Return the plain form of those attributes of the module that have one."""
    kept: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name not in names:
            continue
        if type(value) in _PLAIN_ALREADY:  # most are, and reducing them takes as long as all the rest
            kept[name] = value
        elif not _is_device(value):
            try:
                kept[name] = Reduction((reduce_scalar, _reduce_callable)).reduce(value)
            except ConfigTypeError:  # an object of some class: what it is made of is not known
                continue
    return kept


def _names(constructor: Any) -> tuple[str, ...]:
    function = inspect.unwrap(constructor) if constructor else None
    if not isinstance(function, FunctionType):
        return ()
    code = function.__code__
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def _is_device(value: object) -> bool:
    torch = sys.modules["torch"]
    return isinstance(value, torch.device)


def _reduce_callable(value: object) -> object:
    if isinstance(value, partial):
        return Reduction((reduce_scalar, _reduce_callable)).reduce([value.func, list(value.args), value.keywords])
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType):
        return {"callable": identity_of(value)}
    return UNREDUCED
