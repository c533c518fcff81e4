"""What a state that was taken apart consists of, and how it is put together again."""

from __future__ import annotations

import marshal
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["DICT", "LIST", "ORDERED", "TENSOR", "TUPLE", "Section", "Unfolding"]

TENSOR = ...
"""Stands for the next tensor."""

DICT, ORDERED, LIST, TUPLE = range(4)
"""What a tuple among tokens begins with: the kind of a container. Its keys or its length follow."""

_MARSHAL_BY_VALUE = 2  # later versions refer back to objects met before, so the bytes of equal values can differ


@dataclass(frozen=True, slots=True)
class Section:
    """A large container inside a state, which need not be unfolded as long as it does not change.

    Attributes:
        tokens: what it consists of.
        first_tensor: how many tensors come before it.
        tensor_count: how many are its own.
    """

    tokens: list[Any]
    first_tensor: int
    tensor_count: int

    def fingerprint(self) -> tuple[int, bytes] | None:
        """Return what is equal for equal sections only; None where it holds what marshal does not write."""
        try:
            return self.first_tensor, marshal.dumps(self.tokens, _MARSHAL_BY_VALUE)
        except ValueError:  # a dtype, a device, a torch.Size
            return None

    def unfold(self, tensors: Sequence[Any]) -> Any:
        """Return the container, given what stands for each tensor of the whole state."""
        return Unfolding(self.tokens, tensors, self.first_tensor).next()


class Unfolding:
    """Tokens read one after the other."""

    def __init__(self, tokens: Sequence[Any], tensors: Sequence[Any], first_tensor: int) -> None:
        self._tokens = iter(tokens)
        self._tensors = tensors
        self._number = first_tensor

    def next(self) -> Any:
        """Return the value that the next tokens make up."""
        token = next(self._tokens)
        kind = type(token)
        if token is TENSOR:
            self._number += 1
            return self._tensors[self._number - 1]
        if kind is Section:
            self._number += token.tensor_count
        if kind is not tuple:
            return token
        return self._container(*token)

    def _container(self, code: int, *rest: Any) -> Any:
        if code == DICT:
            return {key: self.next() for key in rest}
        if code == ORDERED:
            names, *keys = rest
            ordered = OrderedDict((key, self.next()) for key in keys)
            vars(ordered).update({name: self.next() for name in names})
            return ordered
        items = [self.next() for _ in range(rest[0])]
        return items if code == LIST else tuple(items)
