"""A store that fails on demand, around a real one, to prove the promises of the layers above.

A fault is a small frozen value; a `FaultyStore` takes any number of them and applies all that match a call::

    store = FaultyStore(LocalStore(folder), [Fail("put", StoreFull("no space"), nth=2)])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Call", "CutPut", "Fail", "Fault", "FlipBit", "Killed", "Operation", "Truncate"]

Reading: TypeAlias = Literal["get", "get_ranges", "stat", "list", "list_prefixes", "list_uploads"]
Writing: TypeAlias = Literal["put", "create", "delete", "copy", "abort_upload"]
Operation: TypeAlias = Reading | Writing


class Killed(BaseException):
    """The process is gone: no handler runs that catches Exception, and the store does nothing any more."""


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a store.

    Attributes:
        operation: the method; "create" is ``put(overwrite=False)``.
        key: the key or prefix; of a copy the source; of a delete one call is recorded for each key.
    """

    operation: Operation
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where and when something goes wrong. By itself it does nothing.

    Attributes:
        key: only calls on this key or prefix; None is any.
        nth: only the nth call that matches, counted from 1; None is every one.
    """

    key: str | None = None
    nth: int | None = 1

    def matches(self, call: Call) -> bool:
        """Tell whether that call counts for this fault."""
        return self.key in {None, call.key}

    def before(self) -> None:
        """Act before the call reaches the store."""

    def after(self) -> None:
        """Act after the store has done what was asked."""

    def sent(self, parts: Iterator[memoryview]) -> Iterator[memoryview]:
        """Return what the store pulls in place of these parts of a put."""
        return parts

    def received(self, start: int, data: memoryview) -> memoryview:
        """Return what the reader gets in place of this data, which lies at that offset of the object."""
        del start
        return data


@dataclass(frozen=True, slots=True)
class Fail(Fault):
    """Raise at a call, before the store acts or after it has (the answer was lost).

    Attributes:
        operation: which calls.
        error: what is raised; `Killed` also ends the store.
        when: "before" or "after" the act.
    """

    operation: Operation
    error: BaseException
    when: Literal["before", "after"] = "before"

    def matches(self, call: Call) -> bool:
        """Tell whether the operation and the key are meant."""
        return call.operation == self.operation and self.key in {None, call.key}

    def before(self) -> None:
        """Raise, if it was asked for before."""
        if self.when == "before":
            raise self.error

    def after(self) -> None:
        """Raise, if it was asked for after."""
        if self.when == "after":
            raise self.error


@dataclass(frozen=True, slots=True)
class CutPut(Fault):
    """Raise in the middle of a put, after so many bytes were handed over; the store must publish nothing.

    Attributes:
        after_bytes: how many bytes go through first. A shorter object is cut at its end.
        error: what is raised; `Killed` also ends the store.
    """

    after_bytes: int
    error: BaseException

    def matches(self, call: Call) -> bool:
        """Tell whether it is a put or create of the key."""
        return call.operation in {"put", "create"} and self.key in {None, call.key}

    def sent(self, parts: Iterator[memoryview]) -> Iterator[memoryview]:
        """Let the first bytes through and raise."""
        left = self.after_bytes
        for part in parts:
            if part.nbytes > left:
                yield part[:left]
                break
            left -= part.nbytes
            yield part
        raise self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReadFault(Fault):
    nth: int | None = None  # a medium that lies does it every time

    def matches(self, call: Call) -> bool:
        """Tell whether it reads the key."""
        return call.operation in {"get", "get_ranges"} and self.key in {None, call.key}


@dataclass(frozen=True, slots=True)
class FlipBit(_ReadFault):
    """Hand out an object with one bit flipped.

    Attributes:
        offset: of the byte in the object.
        bit: 0 to 7.
    """

    offset: int
    bit: int = 0

    def received(self, start: int, data: memoryview) -> memoryview:
        """Flip the bit if it lies in this data."""
        if not start <= self.offset < start + data.nbytes:
            return data
        changed = bytearray(data)
        changed[self.offset - start] ^= 1 << self.bit
        return memoryview(changed)


@dataclass(frozen=True, slots=True)
class Truncate(_ReadFault):
    """Hand out only the first bytes of an object, while `stat` tells its real length.

    Attributes:
        size_bytes: how many bytes are handed out.
    """

    size_bytes: int

    def received(self, start: int, data: memoryview) -> memoryview:
        """Cut off what lies behind."""
        return data[: max(0, self.size_bytes - start)]
