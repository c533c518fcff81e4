"""The pickled form of a state's large parts, kept for the next save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ckptstore.archive.tensors import TensorRef

__all__ = ["SectionCache", "WrittenSection"]


@dataclass(frozen=True, slots=True)
class WrittenSection:
    """How a section was pickled, and under which circumstances it would be again.

    Attributes:
        fingerprint: of the section.
        memo_size: how many values had been written before it.
        known: those of them that it refers to, with their numbers.
        added: what it added to them.
        code: the pickle.
    """

    fingerprint: tuple[int, bytes]
    memo_size: int
    known: Mapping[bytes, int]
    added: Mapping[bytes, int]
    code: bytes

    def fits(self, fingerprint: tuple[int, bytes], memo: Mapping[bytes, int]) -> bool:
        """Whether the code is what would be written now."""
        return (
            fingerprint == self.fingerprint
            and len(memo) == self.memo_size
            and all(memo.get(code) == number for code, number in self.known.items())
            and memo.keys().isdisjoint(self.added.keys())
        )


class SectionCache:
    """The pickles of large sections, for the next state whose tensors lie as those of this one do.

    Args:
        tensors: where each tensor lies.
    """

    def __init__(self, tensors: Sequence[TensorRef]) -> None:
        self.tensors = tensors
        self.written: dict[int, WrittenSection | None] = {}
