"""mirror(): list both sides, compare, plan, and carry the plan out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from ckptstore import keys
from ckptstore.errors import MirrorIncomplete, StoreNotFound, UnknownExperiment
from ckptstore.keys import Kind
from ckptstore.mirroring.journal import Journal
from ckptstore.mirroring.lineage import parent_of, parents_first
from ckptstore.mirroring.listing import Both, all_experiments, one_folder
from ckptstore.mirroring.outcome import Outcome, expected, message, reported
from ckptstore.mirroring.places import check_apart
from ckptstore.mirroring.planning import Choice, OnConflict, Plan, Stage
from ckptstore.mirroring.report import MirrorReport
from ckptstore.mirroring.survey import Survey, current
from ckptstore.mirroring.transfer import Carrier
from ckptstore.mirroring.work import Watch, Work
from ckptstore.objects import redact
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.store import Store

__all__ = ["OnConflict", "mirror"]

WORKERS = 8
"""How many objects are on their way at a time, where nothing else is asked."""

_OF_AN_ANCESTOR = frozenset({Kind.CONFIG, Kind.ARCHITECTURE, Kind.ARCHITECTURE_TEXT, Kind.PROVENANCE})


def mirror(
    source: StoreLike,
    target: StoreLike,
    *,
    experiments: Iterable[str] | None = None,
    latest: int | None = None,
    dry_run: bool = False,
    delete: bool = False,
    checksum: bool = False,
    with_data: bool = False,
    with_logs: bool = False,
    on_conflict: OnConflict = "stop",
    workers: int = WORKERS,
    progress: Progress | None = None,
) -> MirrorReport:
    """Make the target hold what the source holds of its experiments.

    Only what differs moves, and each object is verified on arrival. An experiment grows in the target in the order
    in which it was made: whoever reads there meanwhile finds no checkpoint without its companions, and no record that
    points to an experiment that is not there. A mirror that was killed at any moment is completed by the next one.
    Objects under one key count as equal when a journal on this machine says that these very versions are, or the
    stores' own checksums do, or two checkpoints of one size end in the same digest of their content; otherwise both
    are read.

    Args:
        source: an open store, or what opens one; it is only read.
        target: the same; other objects there are left alone.
        experiments: full hashes; None is all there are. The records of those that they came out of come along.
        latest: of each experiment only so many checkpoints, the newest as resuming ranks them. Those of the target
            that this leaves out stay.
        dry_run: change nothing, and report what would be.
        delete: remove what the target holds of the mirrored experiments and the source does not; last, and only
            where nothing failed. The other form of a checkpoint goes when both were read and are the same.
        checksum: compare all bytes of both sides, whatever else is known.
        with_data: also what lies under ``data/``; nothing is ever deleted there.
        with_logs: also what lies under ``logs/``, where a file that has only grown is no conflict.
        on_conflict: what to do where the target holds other content under the same key. "stop" changes nothing at
            all; "source" overwrites it; "target" leaves it; "newer" keeps what was written later, and stops where
            that cannot be told. What is damaged never overwrites what is sound.
        workers: how many objects at a time.
        progress: is told of it.

    Raises:
        SamePlace: the stores are one place, or one lies in the other.
        UnknownExperiment: the source has no such experiment; nothing was changed.
        MirrorIncomplete: an object failed, or conflicts stopped it; its `report` says which and why. The others went
            on. Not in a dry run.
        StoreNotFound: a bucket, or the source's folder, does not exist.
        ValueError: latest or workers below 1, or an unknown on_conflict.
    """
    hashes = None if experiments is None else tuple(dict.fromkeys(map(keys.check_hash, experiments)))
    choice = Choice(delete=delete, on_conflict=on_conflict)
    _check(choice, latest, workers)
    folders = (*((keys.DATA,) if with_data else ()), *((keys.LOGS,) if with_logs else ()))
    asked = _Asked(hashes, folders, choice, latest, dry_run, checksum, workers, progress or Silent())
    with opened(source) as ours, opened(target) as theirs:
        _check_there(ours)
        check_apart(ours, theirs)
        return _Mirror(ours, theirs, asked).run()


def _check(choice: Choice, latest: int | None, workers: int) -> None:
    if latest is not None and latest < 1:
        raise ValueError(f"latest={latest}; give how many checkpoints of each experiment, from 1 upwards")
    if workers < 1:
        raise ValueError(f"workers={workers}; at least one has to do the work")
    if choice.on_conflict not in get_args(OnConflict):
        raise ValueError(f"on_conflict={choice.on_conflict!r}; choose one of {', '.join(get_args(OnConflict))}")


def _check_there(source: Store) -> None:
    inside = source.path("k")
    if isinstance(inside, Path) and not inside.parent.exists():
        raise StoreNotFound(f"cannot mirror {redact(source.url)}: there is no such folder; check the path")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a mirror was asked to do; see `mirror`."""

    hashes: tuple[str, ...] | None
    folders: tuple[str, ...]
    choice: Choice
    latest: int | None
    dry_run: bool
    thorough: bool
    workers: int
    progress: Progress


class _Mirror:
    """One run."""

    def __init__(self, source: Store, target: Store, asked: _Asked) -> None:
        self._source, self._target, self._asked = source, target, asked
        self._journal = Journal(source, target)
        self._ancestors: list[str] = []
        self._dangling: tuple[str, ...] = ()
        self._began = time.monotonic()

    def run(self) -> MirrorReport:
        try:
            with ThreadPoolExecutor(self._asked.workers, "ckptstore mirror survey") as pool:
                survey = Survey(self._source, self._target, self._journal, pool, thorough=self._asked.thorough)
                self._asked.progress.describe("comparing")
                plans = list(survey.plans(self._folders(pool), self._asked.choice, self._asked.latest))
                parents = self._parents(plans, pool)
                plans, parents = self._with_ancestors(survey, plans, parents)
            stops = any(plan.conflicts for plan in plans)
            outcome = expected(plans) if self._asked.dry_run or stops else self._done(plans, parents)
            outcome.failures += survey.failures
            outcome.gone += survey.gone
            return self._concluded(plans, Outcome(failures=outcome.failures) if stops else outcome)
        finally:
            self._journal.close()

    # -- what there is --------------------------------------------------------------------------------

    def _folders(self, pool: ThreadPoolExecutor) -> Iterator[Both]:
        hashes = self._asked.hashes
        if hashes is None:
            yield from all_experiments(self._source, self._target)
        else:
            yield from pool.map(self._selected, hashes)
        for folder in self._asked.folders:
            yield one_folder(self._source, self._target, folder)

    def _selected(self, exp_hash: str) -> Both:
        found = one_folder(self._source, self._target, keys.experiment_prefix(exp_hash))
        if not found.source:
            hashes = map(keys.hash_of_prefix, self._source.list_prefixes(keys.CHECKPOINTS))
            there = ", ".join(filter(None, hashes)) or "none"
            raise UnknownExperiment(f"no experiment {exp_hash} in {redact(self._source.url)}; there are: {there}")
        return found

    def _parents(self, plans: Sequence[Plan], pool: ThreadPoolExecutor) -> dict[str, str]:
        """Return the prefixes of the experiments that those whose records are to be copied came out of."""
        recorded = [plan for plan in plans if Stage.RECORD in plan.copies and plan.exp_hash is not None]
        found = pool.map(lambda plan: parent_of(self._source, plan.exp_hash), recorded)
        return {
            plan.prefix: keys.experiment_prefix(parent)
            for plan, parent in zip(recorded, found, strict=True)
            if parent is not None
        }

    def _with_ancestors(
        self, survey: Survey, plans: list[Plan], parents: dict[str, str]
    ) -> tuple[list[Plan], dict[str, str]]:
        """Add the records that the copied ones point to, as far as the source has them and the target has not."""
        choice = replace(self._asked.choice, delete=False, kinds=_OF_AN_ANCESTOR, on_conflict="target")
        known = {plan.prefix for plan in plans}
        missing = [prefix for prefix in parents.values() if prefix not in known]
        while missing:
            prefix = missing.pop()
            both = one_folder(self._source, self._target, prefix)
            record = keys.provenance_key(str(both.exp_hash))
            if prefix in known or record in both.target or record not in both.source:
                continue
            known.add(prefix)
            plans = [*plans, *survey.plans([both], choice)]
            self._ancestors.append(str(both.exp_hash))
            if (parent := parent_of(self._source, str(both.exp_hash))) is not None:
                parents[prefix] = keys.experiment_prefix(parent)
                missing.append(parents[prefix])
        self._dangling = tuple(self._pointing_nowhere(plans, parents))
        return parents_first(plans, parents)

    def _pointing_nowhere(self, plans: Sequence[Plan], parents: Mapping[str, str]) -> Iterator[str]:
        """Yield which copied records point to one that is nowhere. One or two requests for each parent not copied."""
        copied = {plan.prefix for plan in plans if Stage.RECORD in plan.copies}
        nowhere = {parent for parent in set(parents.values()) - copied if self._lacks_record(parent)}
        for prefix, parent in parents.items():
            if parent in nowhere:
                names = keys.hash_of_prefix(prefix), keys.hash_of_prefix(parent)
                yield f"{names[0]} came out of {names[1]}, whose record the source does not have"

    def _lacks_record(self, prefix: str) -> bool:
        record = keys.provenance_key(str(keys.hash_of_prefix(prefix)))
        return current(self._source, record) is None and current(self._target, record) is None

    # -- what is done ---------------------------------------------------------------------------------

    def _done(self, plans: Sequence[Plan], parents: Mapping[str, str]) -> Outcome:
        watch = Watch(self._asked.progress)
        watch.expect(plans)
        self._asked.progress.describe("copying")
        carrier = Carrier(self._source, self._target, watch.moved)
        wins = self._asked.choice.on_conflict == "source"
        work = Work(carrier, self._source, self._target, self._journal, watch, source_wins=wins)
        return work.run(plans, parents, self._asked.workers)

    def _concluded(self, plans: Sequence[Plan], outcome: Outcome) -> MirrorReport:
        asked = MirrorReport(
            redact(self._source.url),
            redact(self._target.url),
            self._asked.dry_run,
            ancestors=tuple(sorted(self._ancestors)),
            notes=tuple(self._notes(plans)),
            seconds=time.monotonic() - self._began,
        )
        report = reported(asked, plans, outcome)
        if not report.ok and not report.dry_run:
            raise MirrorIncomplete(message(report), report)
        return report

    def _notes(self, plans: Sequence[Plan]) -> Iterator[str]:
        if self._asked.hashes is None and not any(plan.exp_hash for plan in plans):
            yield f"{redact(self._source.url)} holds no experiment"
        yield from self._dangling
        if self._journal.trouble:
            yield self._journal.trouble
