"""What to keep, and deleting the rest: policies, prune, old experiments, and what crashes leave behind."""

from __future__ import annotations

from ckptstore.retention.aging import ExperimentVerdict
from ckptstore.retention.experiments import ExperimentsReport, prune_experiments
from ckptstore.retention.garbage import GarbageItem, GarbageReport, collect_garbage
from ckptstore.retention.planning import Verdict
from ckptstore.retention.policies import Best, Candidate, EverySteps, Latest, Pinned, Policy, Union, WithinAge
from ckptstore.retention.pruning import PruneReport, prune

__all__ = [
    "Best",
    "Candidate",
    "EverySteps",
    "ExperimentVerdict",
    "ExperimentsReport",
    "GarbageItem",
    "GarbageReport",
    "Latest",
    "Pinned",
    "Policy",
    "PruneReport",
    "Union",
    "Verdict",
    "WithinAge",
    "collect_garbage",
    "prune",
    "prune_experiments",
]
