"""Say in few words what made one experiment's hash differ from another's."""

from __future__ import annotations

from ckptstore.comparing.experiments import ExperimentDiff, compare_experiments
from ckptstore.comparing.samples import SampleChange
from ckptstore.experiment import Experiment

__all__ = ["phrase", "why"]

_NAMED = 3
_NAMES = {"model": "the architecture", "config": "the config", "data": "the samples"}


def why(old: Experiment, new: Experiment) -> str:
    """Return one sentence on what made the hash of the second differ from that of the first.

    Raises:
        CheckpointNotFound: an experiment has no record.
        CorruptCheckpoint: a record is damaged.
    """
    found = compare_experiments(old, new)
    if found.same:
        return f"{found.old} and {found.new} are the same experiment."
    reasons = [f"{_NAMES[name]}{_in_brackets(_details(name, found))}" for name in found.components]
    return f"{found.new} differs from {found.old} in {' and in '.join(reasons or [_no_reason(found)])}."


def phrase(found: ExperimentDiff) -> str:
    """Return what changed, without a subject, such as ``learning_rate 0.1 -> 0.01; samples 100 -> 90``."""
    details = [(name, _details(name, found)) for name in found.components]
    said = [f"samples {text}" if name == "data" else text or f"{_NAMES[name]} changed" for name, text in details]
    return "; ".join(said) or ("nothing" if found.same else _no_reason(found))


def _in_brackets(details: str) -> str:
    return f" ({details})" if details else ""


def _no_reason(found: ExperimentDiff) -> str:
    old, new = found.schemes
    return f"the hashing scheme ({old} -> {new})" if old != new else "nothing that their records hold"


def _details(component: str, found: ExperimentDiff) -> str:
    had, has = found.given[component]
    if not (had and has):
        return "given now" if has else "no longer given"
    if component == "data":
        return _samples_text(found.samples)
    if component == "model":
        return _listed([str(change) for change in found.modules])
    return _listed([str(change) for change in found.configs if change.counts])


def _listed(changes: list[str]) -> str:
    more = len(changes) - _NAMED
    return ", ".join(changes[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _samples_text(change: SampleChange | None) -> str:
    if change is None:
        return "changed"
    counted = f"{change.old_count:,} -> {change.new_count:,}"
    if change.added is None or change.removed is None:
        return counted
    named = [
        f"{verb} {_listed([str(uid) for uid in uids])}"
        for verb, uids in (("without", change.removed), ("with", change.added))
        if uids
    ]
    return ", ".join([counted, *named])
