"""What became of each file of the older layout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Action", "ImportOutcome", "ImportReport"]

Action: TypeAlias = Literal["imported", "present", "conflict", "refused", "failed", "missing"]
"""It is a checkpoint now; it was one already; another one has its place; it could run code; an error; not there."""


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What became of one file; in a dry run, what would.

    Attributes:
        file: its name.
        action: see `Action`.
        step: of the checkpoint, where it is known.
        exp_hash: its experiment, where it is known.
        reason: why it is no checkpoint now; otherwise empty.
        left_out: what it holds that has no place in a checkpoint.
    """

    file: str
    action: Action
    step: int | None = None
    exp_hash: str | None = None
    reason: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of everything in the old folder.

    Attributes:
        source: the old folder, without credentials.
        target: the store, without credentials.
        dry_run: nothing was written; this is what would have been.
        outcomes: of each checkpoint, by step.
        unknown: what was not understood, and left alone: files, folders (with "/" at the end), keys of the index.
    """

    source: str
    target: str
    dry_run: bool
    outcomes: tuple[ImportOutcome, ...]
    unknown: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every checkpoint is in the store now, or would be."""
        return all(outcome.action in {"imported", "present"} for outcome in self.outcomes)

    @property
    def experiments(self) -> tuple[str, ...]:
        """The hashes of the experiments they went to."""
        return tuple(dict.fromkeys(outcome.exp_hash for outcome in self.outcomes if outcome.exp_hash))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "source": self.source,
            "target": self.target,
            "dry_run": self.dry_run,
            "ok": self.ok,
            "experiments": list(self.experiments),
            "outcomes": [asdict(outcome) for outcome in self.outcomes],
            "unknown": list(self.unknown),
        }
