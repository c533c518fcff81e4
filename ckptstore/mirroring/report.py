"""What a mirror did, or would do, and what it could not."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Proof: TypeAlias = Literal["", "checksum", "read back", "ending"]

_WIDTH = 80
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Transferred:
    """An object that was copied, or would be.

    Attributes:
        key: its key, the same on both sides.
        size_bytes: its length.
        replaced: the target held other content under this key.
        proof: how its arrival was verified: by a checksum that the target keeps, by reading it back, or, for a copy
            that the server made, by the digest at its end. "" in a dry run.
    """

    key: str
    size_bytes: int
    replaced: bool = False
    proof: Proof = ""


@dataclass(frozen=True, slots=True)
class Removed:
    """An object that was deleted from the target, or would be."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A key under which source and target hold different content.

    Attributes:
        key: the key.
        source_bytes: its length in the source.
        target_bytes: its length in the target.
        reason: why no policy decided it; "" where there was none.
    """

    key: str
    source_bytes: int
    target_bytes: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that did not arrive, or could not be deleted.

    Attributes:
        key: the key.
        error: what happened, or what it was held back for.
    """

    key: str
    error: str


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """The outcome of a mirror; ``str()`` gives it as a page of 80 columns.

    Attributes:
        source: its URL, without credentials.
        target: its URL.
        dry_run: nothing was changed, and this is what would be.
        experiments: the mirrored ones.
        ancestors: experiments outside the selection whose records came along, because a mirrored one came out of
            them.
        transferred: the objects that were copied.
        removed: the objects that were deleted from the target.
        kept: conflicts that the policy decided for the target.
        conflicts: those that stopped the mirror; nothing was changed then.
        failures: objects that did not arrive, with the reason.
        gone: objects that were deleted from the source meanwhile.
        foreign: keys in the experiments' folders that are no part of the layout, of either side; left alone.
        same_objects: how many were equal on both sides.
        same_bytes: how much those are.
        notes: what else a person should know.
        seconds: how long it took.
    """

    source: str
    target: str
    dry_run: bool
    experiments: tuple[str, ...] = ()
    ancestors: tuple[str, ...] = ()
    transferred: tuple[Transferred, ...] = ()
    removed: tuple[Removed, ...] = ()
    kept: tuple[Conflict, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    failures: tuple[Failure, ...] = ()
    gone: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    same_objects: int = 0
    same_bytes: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the target holds all that was asked."""
        return not self.conflicts and not self.failures

    @property
    def transferred_bytes(self) -> int:
        """How much was copied."""
        return sum(item.size_bytes for item in self.transferred)

    @property
    def removed_bytes(self) -> int:
        """How much was deleted."""
        return sum(item.size_bytes for item in self.removed)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        sums = {"transferred_bytes": self.transferred_bytes, "removed_bytes": self.removed_bytes}
        return {**asdict(self), **sums, "ok": self.ok}

    def __str__(self) -> str:
        return "\n".join([self.source, f"-> {self.target}", "", *self._lines()])

    def _lines(self) -> Iterator[str]:
        yield from self._counts()
        yield from _listed("conflict", [_described(item) for item in self.conflicts])
        yield from _listed("kept", [_described(item) for item in self.kept])
        yield from _listed("FAILED", [f"{item.key}: {item.error}" for item in self.failures])
        yield from _listed("gone", list(self.gone))
        yield from _listed("foreign", list(self.foreign))
        yield from _listed("note", list(self.notes))

    def _counts(self) -> Iterator[str]:
        did, deleted = ("would copy", "would delete") if self.dry_run else ("copied", "deleted")
        yield _count(did, len(self.transferred), self.transferred_bytes)
        if self.removed:
            yield _count(deleted, len(self.removed), self.removed_bytes)
        yield _count("equal", self.same_objects, self.same_bytes)


def _count(what: str, objects: int, size_bytes: int) -> str:
    return f"  {what:<14} {objects:>8,} objects {size_bytes:>20,} bytes"


def _described(conflict: Conflict) -> str:
    sizes = f"{conflict.source_bytes} bytes in the source, {conflict.target_bytes} in the target"
    return f"{conflict.key}: {sizes}" + (f"; {conflict.reason}" if conflict.reason else "")


def _listed(what: str, lines: list[str]) -> Iterator[str]:
    for line in lines[:_SHOWN]:
        yield textwrap.fill(
            line, _WIDTH, initial_indent=f"  {what:<10} ", subsequent_indent=" " * 13, break_on_hyphens=False
        )
    if len(lines) > _SHOWN:
        yield f"  {what:<10} and {len(lines) - _SHOWN} more"
