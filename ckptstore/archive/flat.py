"""A nested state taken apart into its tensors, in order, and everything else: fast enough to do between two steps.

Containers are written down as tokens, scalars stand for themselves. Whatever is mutable is copied on the way, so the
tokens are what the state was at that moment, and equal tokens, compared as marshal writes them, are equal states.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ckptstore.archive.plain import AS_IT_IS, MAX_DEPTH, MAX_INT_BITS, checked_int, is_key, savable
from ckptstore.archive.tokens import DICT, LIST, ORDERED, TENSOR, TUPLE, Section, Unfolding
from ckptstore.errors import UnsavableState

__all__ = ["Flat", "flatten"]

_TEXT, _INTS = frozenset({str}), frozenset({int})
_TENSOR_TYPES = frozenset({torch.Tensor, torch.nn.Parameter})
_SECTION_ITEMS = 16


@dataclass(frozen=True, slots=True)
class Flat:
    """A state taken apart.

    Attributes:
        tokens: what it consists of; large containers are sections.
        tensors: the live ones, in order.
    """

    tokens: Sequence[Any]
    tensors: Sequence[torch.Tensor]

    def without_tensors(self) -> Flat:
        """Return the rest, which keeps no memory of the program alive."""
        return Flat(self.tokens, ())

    def unfold(self, tensors: Sequence[Any]) -> Any:
        """Return the state with these in place of its tensors, and with its sections still folded."""
        return Unfolding(self.tokens, tensors, 0).next()


def flatten(state: Mapping[str, Any]) -> Flat:
    """Take a state apart; what `savable` turns into plain data is turned into it.

    Tensors are not looked at, but for their type.

    Raises:
        UnsavableState: as `savable` does.
    """
    flattening = _Flattening()
    try:
        flattening.add(state, MAX_DEPTH)
    except UnsavableState:
        savable(state)  # the same error, with the path to what it is about
        raise
    return Flat(flattening.tokens, flattening.tensors)


class _Flattening:
    def __init__(self) -> None:
        self.tokens: list[Any] = []
        self.tensors: list[torch.Tensor] = []
        self._in_section = False
        self._seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def add(self, value: Any, levels: int) -> None:
        kind = type(value)
        if kind in _TENSOR_TYPES:
            self.tokens.append(TENSOR)
            self.tensors.append(value)
        elif kind in AS_IT_IS:
            self.tokens.append(value)
        elif kind is int:
            self.tokens.append(checked_int(value, ""))
        elif kind in _CONTAINERS:
            self._add_container(value, levels)
        else:
            self._add_odd(value, levels)

    def _add_container(self, value: Any, levels: int) -> None:
        if levels == 0:
            raise UnsavableState("nested too deep")
        if self._in_section or len(value) < _SECTION_ITEMS:
            _CONTAINERS[type(value)](self, value, levels - 1)
            return
        outer, first_tensor = self.tokens, len(self.tensors)
        self.tokens, self._in_section = [], True
        _CONTAINERS[type(value)](self, value, levels - 1)
        outer.append(Section(self.tokens, first_tensor, len(self.tensors) - first_tensor))
        self.tokens, self._in_section = outer, False

    def add_dict(self, value: dict[Any, Any], levels: int) -> None:
        token = (DICT, *value)
        if _all_text(value):  # among numbers, 1 and True would count as the same
            token = self._seen.setdefault(token, token)
        elif not _are_keys(value):
            self._add_odd(value, levels)
            return
        self.tokens.append(token)
        self._add_all(value.values(), levels)

    def add_ordered_dict(self, value: OrderedDict[Any, Any], levels: int) -> None:
        if not _are_keys(value):
            self._add_odd(value, levels)
            return
        attributes = vars(value)
        self.tokens.append((ORDERED, tuple(attributes), *value))
        self._add_all(value.values(), levels)
        self._add_all(attributes.values(), levels)

    def add_list(self, value: list[Any], levels: int) -> None:
        self.tokens.append((LIST, len(value)))
        self._add_all(value, levels)

    def add_tuple(self, value: tuple[Any, ...], levels: int) -> None:
        self.tokens.append((TUPLE, len(value)))
        self._add_all(value, levels)

    def _add_all(self, values: Any, levels: int) -> None:
        kinds = set(map(type, values))
        if kinds <= _TENSOR_TYPES:  # the many small dicts of an optimizer's state
            self.tensors.extend(values)
            self.tokens.extend((TENSOR,) * len(values))
        elif kinds <= AS_IT_IS or (kinds == _INTS and max(map(int.bit_length, values)) <= MAX_INT_BITS):
            self.tokens.extend(values)
        else:
            for value in values:
                self.add(value, levels)

    def _add_odd(self, value: Any, levels: int) -> None:
        plain = savable(value, place=lambda storage: storage)
        if type(plain) is set:
            self.tokens.append(plain)
        else:
            self.add(plain, levels)


_CONTAINERS: dict[type, Callable[[_Flattening, Any, int], None]] = {
    dict: _Flattening.add_dict,
    OrderedDict: _Flattening.add_ordered_dict,
    list: _Flattening.add_list,
    tuple: _Flattening.add_tuple,
}


def _all_text(keys: Iterable[Any]) -> bool:
    return _TEXT.issuperset(map(type, keys))


def _are_keys(keys: Iterable[Any]) -> bool:
    return _all_text(keys) or all(map(_is_sound_key, keys))


def _is_sound_key(key: Any) -> bool:
    if type(key) is tuple:
        return all(map(_is_sound_key, key))
    return is_key(key) and (type(key) is not int or key.bit_length() <= MAX_INT_BITS)
