"""How long work tells what it has done: the caller decides how that looks."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Is told of work while it is done, from one thread at a time.

    The total may grow while the work goes on; what is done never shrinks.
    """

    def expect(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Add to what there is to do."""

    def advance(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Add to what is done."""

    def describe(self, what: str) -> None:
        """Say in a few words what is being done now."""


class Silent:
    """Progress that nobody watches."""

    def expect(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Do nothing."""

    def advance(self, *, size_bytes: int = 0, objects: int = 0) -> None:
        """Do nothing."""

    def describe(self, what: str) -> None:
        """Do nothing."""
