"""What a verification found, by experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["ExperimentFindings", "Finding", "FindingKind", "VerifyReport"]

FindingKind: TypeAlias = Literal[
    "damaged",
    "missing",
    "orphaned",
    "hollow",
    "unreadable",
    "changed",
    "foreign",
    "unsealed",
    "unfinished",
    "leftover",
    "dangling",
]

_PROBLEMS = {"damaged", "missing", "orphaned", "hollow", "unreadable", "changed"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, or that a person should know.

    Attributes:
        kind: what it is. "damaged": truncated, flipped, or another object's bytes. "missing": a companion that should
            be there. "orphaned": something without what it belongs to. "hollow": an experiment with neither record
            nor checkpoint. "unreadable": the store, or this version, could not read it. "changed": replaced while it
            was read. These are problems; the others are notes. "foreign": not ours, left alone. "unsealed": an older
            tool wrote it without a checksum, so that it cannot be checked. "unfinished": an upload that takes space.
            "leftover": what a crash left beside a sound object. "dangling": the experiment that this one came out of
            has no record here.
        key: of the object.
        detail: what was found.
        size_bytes: what it takes in the store.
        outcome: what became of a repair, "" where none was tried.
        repair: what it was replaced by, or why nothing was; "" where none was tried.
    """

    kind: FindingKind
    key: str
    detail: str
    size_bytes: int = 0
    outcome: Literal["", "repaired", "not repaired"] = ""
    repair: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether it is one, and still there."""
        return self.kind in _PROBLEMS and self.outcome != "repaired"


@dataclass(frozen=True, slots=True)
class ExperimentFindings:
    """What was found in one experiment.

    Attributes:
        exp_hash: the experiment.
        objects: how many lie under it, foreign ones included.
        size_bytes: their size.
        read_bytes: how much of that was read and checked.
        findings: by key.
    """

    exp_hash: str
    objects: int
    size_bytes: int
    read_bytes: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem left."""
        return not any(finding.is_problem for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind, repaired ones included."""
        return _counts(self.findings)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found in a store.

    Attributes:
        url: the store, without credentials.
        deep: whether bytes were read, or only listings and records.
        experiments: by hash.
        outside: what lies under ``checkpoints/`` in no experiment.
    """

    url: str
    deep: bool
    experiments: tuple[ExperimentFindings, ...]
    outside: tuple[Finding, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether there is no problem left; notes do not count."""
        return not self.problems

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that was found."""
        return tuple(self._all())

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The problems that are left."""
        return tuple(finding for finding in self._all() if finding.is_problem)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each kind, repaired ones included."""
        return _counts(self._all())

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "url": self.url,
            "deep": self.deep,
            "ok": self.ok,
            "counts": self.counts,
            "experiments": [
                {
                    **asdict(one),
                    "ok": one.ok,
                    "counts": one.counts,
                    "findings": [asdict(finding) for finding in one.findings],
                }
                for one in self.experiments
            ],
            "outside": [asdict(finding) for finding in self.outside],
        }

    def _all(self) -> Iterator[Finding]:
        for one in self.experiments:
            yield from one.findings
        yield from self.outside


def _counts(findings: Iterable[Finding]) -> dict[str, int]:
    return dict(sorted(Counter(finding.kind for finding in findings).items()))
