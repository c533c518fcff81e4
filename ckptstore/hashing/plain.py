"""Any accepted config to the plain data that its YAML file stores."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from numbers import Real
from types import SimpleNamespace
from typing import Any, TypeAlias

from ckptstore.errors import ConfigTypeError
from ckptstore.hashing.arrays import reduce_array
from ckptstore.hashing.encoding import encode
from ckptstore.hashing.scalars import UNREDUCED, NoPlainForm, reduce_scalar

MAX_DEPTH = 100
"""Levels of nesting; YAML readers recurse, and give up not far above."""

MAX_KEY_BITS = 4096
"""Python prints no longer int, and keys are printed in messages."""

Leaf: TypeAlias = Callable[[object], object]
_Path: TypeAlias = tuple[object, ...]


def plain_config(config: object, *, ignore: Iterable[str] = ()) -> dict[str, Any]:
    """Return the config as dicts, lists, str, int, float, bool, None and bytes: new containers, in the same order.

    A config is a mapping, a dataclass or an argparse.Namespace, and so may be what it holds. Lists and tuples become
    lists, sets lists in a canonical order, an Enum its value; for numbers, paths and dates see `reduce_scalar`, for
    arrays `reduce_array`. The result is its own plain form.

    Args:
        config: what to reduce.
        ignore: dotted paths to leave out, counted from the top: "seed" is the entry of that name, "logging.level" the
            entry "level" of the mapping "logging". Keys that are no text are matched by ``str(key)``; lists are not
            entered, an entry that is left out may hold anything, and a path that is not there is no error.

    Raises:
        ConfigTypeError: a value has no plain form, a container holds itself, two keys become one, or OmegaConf misses
            a value; the message names the path, such as ``config['optimizer']['fn']``.
    """
    return Reduction((reduce_scalar, reduce_array), _dotted_paths(ignore)).reduce_config(config)


class Reduction:
    """One walk over a value, with the leaves that it accepts."""

    def __init__(self, leaves: Iterable[Leaf], left_out: frozenset[str] = frozenset()) -> None:
        self._leaves = tuple(leaves)
        self._left_out = left_out
        self._open: set[int] = set()

    def reduce_config(self, config: object) -> dict[str, Any]:
        """Reduce a value that has to be a mapping."""
        names = _names_of(config)
        if names is None:
            raise ConfigTypeError(f"config is a {_type_name(config)}; give a mapping, a dataclass or a Namespace")
        return self._reduce_mapping(config, names, ())

    def reduce(self, value: object, path: _Path = ()) -> Any:
        """Reduce any value.

        Raises:
            ConfigTypeError: naming the path to what has no plain form.
        """
        if isinstance(value, Enum):
            return self.reduce(value.value, path)
        leaf = self._reduce_leaf(value, path)
        if leaf is not UNREDUCED:
            return leaf
        names = _names_of(value)
        if names is not None:
            return self._reduce_mapping(value, names, path)
        if isinstance(value, tuple | MutableSequence):
            return self._reduce_sequence(value, path)
        if isinstance(value, set | frozenset):
            return sorted(self._reduce_sequence(tuple(value), path), key=encode)
        raise _refused(
            path, f"is a {_type_name(value)}, which has no plain form; give data, or leave it out by ignore="
        )

    def _reduce_leaf(self, value: object, path: _Path) -> object:
        try:
            for leaf in self._leaves:
                reduced = leaf(value)
                if reduced is not UNREDUCED:
                    return reduced
        except NoPlainForm as error:
            raise _refused(path, str(error)) from None
        return UNREDUCED

    def _reduce_mapping(self, value: Any, names: Iterable[object], path: _Path) -> dict[Any, Any]:
        reduced: dict[Any, Any] = {}
        seen: set[bytes] = set()
        with self._opened(value, path):
            for name in names:
                key = self._reduce_key(name, path)
                if self._left_out and ".".join(map(str, (*path, key))) in self._left_out:
                    continue
                if key in reduced or encode(key) in seen:
                    raise _refused((*path, key), "is there twice: two keys have the same plain form")
                seen.add(encode(key))
                reduced[key] = self.reduce(_fetch(value, name, (*path, key)), (*path, key))
        return reduced

    def _reduce_key(self, name: object, path: _Path) -> str | int | float | bool | None:
        value = name.value if isinstance(name, Enum) else name
        key: Any = self._reduce_leaf(value, path) if value is None or isinstance(value, str | Real) else UNREDUCED
        if key is UNREDUCED:
            raise _refused(path, f"has a key of type {_type_name(name)}; keys are str, number, bool, None or Enum")
        if isinstance(key, int) and key.bit_length() > MAX_KEY_BITS:
            raise _refused(path, f"has an int key of more than {MAX_KEY_BITS} bits; give a str")
        return key  # type: ignore[no-any-return]  # reduce_scalar's answers to these types

    def _reduce_sequence(self, value: Any, path: _Path) -> list[Any]:
        with self._opened(value, path):
            places = [(*path, index) for index in range(len(value))]
            return [self.reduce(_fetch(value, place[-1], place), place) for place in places]

    @contextmanager
    def _opened(self, value: object, path: _Path) -> Iterator[None]:
        if id(value) in self._open:
            raise _refused(path, "holds itself")
        if len(path) >= MAX_DEPTH:
            raise _refused(path[:4], f"is nested more than {MAX_DEPTH} levels deep")
        self._open.add(id(value))
        try:
            yield
        finally:
            self._open.discard(id(value))


def _names_of(value: Any) -> Iterable[object] | None:
    if isinstance(value, Mapping):
        return iter(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in fields(value)]
    if isinstance(value, Namespace | SimpleNamespace):
        return list(vars(value))
    return None


def _fetch(value: Any, name: Any, path: _Path) -> object:
    by_item = isinstance(value, Mapping | tuple | MutableSequence)
    try:
        return value[name] if by_item else getattr(value, name)
    except Exception as error:
        raise _refused(path, f"cannot be read: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def _dotted_paths(ignore: Iterable[str]) -> frozenset[str]:
    if isinstance(ignore, str | bytes):
        raise ConfigTypeError(f"ignore={ignore!r} is one text; give a list of dotted paths, such as [{ignore!r}]")
    paths = frozenset(ignore)
    if others := [path for path in paths if not isinstance(path, str)]:
        raise ConfigTypeError(f"ignore= holds {others[0]!r}; give dotted paths, such as 'logging.level'")
    return paths


def _refused(path: _Path, reason: str) -> ConfigTypeError:
    return ConfigTypeError(f"config{''.join(f'[{key!r}]' for key in path)} {reason}")


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
