"""What became of the objects, put together into a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ckptstore.mirroring.planning import Copy, Plan
from ckptstore.mirroring.report import Failure, MirrorReport, Removed, Transferred
from ckptstore.objects import ObjectInfo

_SAID = 3


@dataclass(slots=True)
class Outcome:
    """What became of the objects."""

    transferred: list[Transferred] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    same: list[ObjectInfo] = field(default_factory=list)


def reported(asked: MirrorReport, plans: Sequence[Plan], outcome: Outcome) -> MirrorReport:
    """Return a report filled in.

    Args:
        asked: what does not follow from the rest.
        plans: of everything that was looked at.
        outcome: what became of it.
    """
    hashes = {plan.exp_hash for plan in plans if plan.exp_hash}
    return replace(
        asked,
        experiments=tuple(sorted(hashes - set(asked.ancestors))),
        transferred=tuple(sorted(outcome.transferred, key=lambda item: item.key)),
        removed=tuple(sorted(outcome.removed, key=lambda item: item.key)),
        kept=tuple(item for plan in plans for item in plan.kept),
        conflicts=tuple(item for plan in plans for item in plan.conflicts),
        failures=tuple(sorted(outcome.failures, key=lambda item: item.key)),
        gone=tuple(sorted(outcome.gone)),
        foreign=tuple(key for plan in plans for key in plan.foreign),
        same_objects=sum(plan.same_objects for plan in plans) + len(outcome.same),
        same_bytes=sum(plan.same_bytes for plan in plans) + sum(info.size_bytes for info in outcome.same),
    )


def expected(plans: Iterable[Plan]) -> Outcome:
    """Return what would be done."""
    outcome = Outcome()
    for plan in plans:
        copies = [copy for stage in plan.copies.values() for copy in stage]
        outcome.transferred += [_would_be(copy) for copy in copies]
        outcome.removed += [Removed(info.key, info.size_bytes) for info in plan.removals]
    return outcome


def _would_be(copy: Copy) -> Transferred:
    return Transferred(copy.key, copy.source.size_bytes, copy.replaced is not None)


def message(report: MirrorReport) -> str:
    """Return what an error says of a mirror that is not complete."""
    if report.conflicts:
        keys_of = _some([item.key for item in report.conflicts])
        return (
            f"{report.source} and {report.target} hold other content under the same key, and nothing was changed: "
            f"{keys_of}; choose on_conflict source, target or newer"
        )
    failed = _some([f"{item.key} ({item.error})" for item in report.failures])
    return f"not everything of {report.source} is in {report.target}: {failed}; mirror again, what arrived stays"


def _some(items: Sequence[str]) -> str:
    rest = f" and {len(items) - _SAID} more" if len(items) > _SAID else ""
    return ", ".join(items[:_SAID]) + rest
