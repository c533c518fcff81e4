"""What compressing or decompressing did with each checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["Action", "CompressReport", "Outcome"]

Action: TypeAlias = Literal["changed", "finished", "kept", "failed"]
"""It has the other form now; it already had, and a leftover of the first form went; left as it was; an error."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one checkpoint; in a dry run, what would.

    Attributes:
        exp_hash: the experiment.
        step: of the checkpoint.
        key: of the object that is the checkpoint now.
        action: see `Action`.
        before_bytes: what it took in the store.
        after_bytes: what it takes now; in a dry run, as before.
        reason: why it was kept, or what failed; otherwise empty.
    """

    exp_hash: str
    step: int
    key: str
    action: Action
    before_bytes: int
    after_bytes: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CompressReport:
    """What became of every checkpoint that was looked at.

    Attributes:
        url: the store, without credentials.
        dry_run: nothing was changed; this is what would have been done.
        outcomes: by experiment and step.
    """

    url: str
    dry_run: bool
    outcomes: tuple[Outcome, ...]

    @property
    def changed(self) -> tuple[Outcome, ...]:
        """Those that have the other form now, or would have."""
        return tuple(outcome for outcome in self.outcomes if outcome.action in {"changed", "finished"})

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Those that are as they were because of an error."""
        return tuple(outcome for outcome in self.outcomes if outcome.action == "failed")

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def before_bytes(self) -> int:
        """What those that changed took in the store."""
        return sum(outcome.before_bytes for outcome in self.changed)

    @property
    def after_bytes(self) -> int:
        """What they take now."""
        return sum(outcome.after_bytes for outcome in self.changed)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; in a dry run what something would take is not known, and null."""
        return {
            "url": self.url,
            "dry_run": self.dry_run,
            "ok": self.ok,
            "before_bytes": self.before_bytes,
            "after_bytes": None if self.dry_run else self.after_bytes,
            "outcomes": [self._outcome_as_dict(outcome) for outcome in self.outcomes],
        }

    def _outcome_as_dict(self, outcome: Outcome) -> dict[str, Any]:
        plain = asdict(outcome)
        if self.dry_run and outcome.action in {"changed", "finished"}:
            plain |= {"action": "would change", "after_bytes": None}
        return plain
