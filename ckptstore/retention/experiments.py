"""Delete old experiments whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ckptstore import keys
from ckptstore.clock import store_time
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint, StoreError
from ckptstore.experiment import Experiment, chosen_hashes, list_hashes
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.retention.aging import ExperimentVerdict, HeldExperiment, Limits, deletion_order, judge
from ckptstore.retention.in_use import current_experiments, resumed_steps
from ckptstore.store import Store, redact

__all__ = ["ExperimentsReport", "prune_experiments"]

MIN_AGE = timedelta(hours=24)
_READERS = 16


@dataclass(frozen=True, slots=True)
class ExperimentsReport:
    """Which experiments went, which stayed, and why.

    Attributes:
        url: the store, without credentials.
        dry_run: nothing was deleted; this is what would have been.
        verdicts: from the experiment that was written to last to the oldest.
    """

    url: str
    dry_run: bool
    verdicts: tuple[ExperimentVerdict, ...]

    @property
    def gone(self) -> tuple[ExperimentVerdict, ...]:
        """Those that went."""
        return tuple(verdict for verdict in self.verdicts if not verdict.stays)

    @property
    def freed_bytes(self) -> int:
        """What those that went took in the store."""
        return sum(verdict.size_bytes for verdict in self.gone)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        verdicts = [{**asdict(verdict), "modified": verdict.modified.isoformat()} for verdict in self.verdicts]
        return {"url": self.url, "dry_run": self.dry_run, "freed_bytes": self.freed_bytes, "verdicts": verdicts}


def prune_experiments(
    store: StoreLike,
    *,
    keep_latest: int | None = None,
    older_than: timedelta | None = None,
    experiments: Iterable[str] | None = None,
    parents: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ExperimentsReport:
    """Delete whole experiments that are old.

    An experiment is as old as what was written into it last, by the store's clock. Whatever is asked, these stay:
    what a manager of this process works on or went on from, what was written to or is being written to within 24
    hours, the parents of those that stay (and their parents), and files that are not ours.

    Checkpoints go first, from the lowest step, the record last: after a crash half way there is still an experiment
    whose record says what it was, with fewer checkpoints or none, and the next call goes on with it.

    Args:
        store: a store, or what `open_store` takes.
        keep_latest: so many stay, by the time of their last write.
        older_than: only what is older goes. At least one of the two must be given; with both, both must hold.
        experiments: full hashes of those that may go; None is every experiment.
        parents: True lets the parents of those that stay go, too.
        dry_run: only say what would go, by this machine's clock.
        progress: is told how far it is.

    Raises:
        ValueError: neither limit was given, or one makes no sense.
        UnknownExperiment: nothing lies under a hash; nothing was deleted.
        CorruptCheckpoint: a record, which may name a parent, is damaged; nothing was deleted.
        StoreError: the store refused a deletion; the error's note says which experiments had gone.
    """
    limits, told = Limits(keep_latest, older_than), progress or Silent()
    with opened(store) as place:
        named = chosen_hashes(place, experiments)
        held = _held(place, read_parents=not parents)
        now = store_time(place) if held and not dry_run else datetime.now(UTC)
        spared = _spared(place, held, named, now)
        verdicts = judge(held, limits, now=now, spared=spared, parents=parents)
        if not dry_run:
            going = {verdict.exp_hash for verdict in verdicts if not verdict.stays}
            changed = _delete(place, [one for one in held if one.exp_hash in going], told)
            verdicts = [_spared_after_all(one) if one.exp_hash in changed else one for one in verdicts]
        return ExperimentsReport(redact(place.url), dry_run, tuple(verdicts))


def _held(store: Store, *, read_parents: bool) -> list[HeldExperiment]:
    hashes = list_hashes(store)
    with ThreadPoolExecutor(_READERS) as readers:
        found = list(readers.map(lambda exp_hash: _held_one(store, exp_hash, read_parents=read_parents), hashes))
    return [one for one in found if one.objects]


def _held_one(store: Store, exp_hash: str, *, read_parents: bool) -> HeldExperiment:
    listed = store.list(keys.experiment_prefix(exp_hash))
    objects = tuple(info for info in listed if keys.parse_key(info.key))
    return HeldExperiment(exp_hash, objects, _parent(store, exp_hash) if read_parents else None)


def _parent(store: Store, exp_hash: str) -> str | None:
    try:
        return Experiment(store, exp_hash).provenance().parent
    except CheckpointNotFound:
        return None
    except CorruptCheckpoint as error:
        raise type(error)(
            f"{error}; it may name a parent that must stay: repair it, or let parents go (parents=True); "
            "nothing was deleted"
        ) from None


def _spared(
    store: Store, held: Iterable[HeldExperiment], named: Sequence[str], now: datetime
) -> dict[str, list[str]]:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for one in held:
        if one.exp_hash not in named:
            reasons[one.exp_hash].append("not among those that were named")
        if one.exp_hash in current_experiments(store):
            reasons[one.exp_hash].append("this process works on it")
        if resumed_steps(store, one.exp_hash):
            reasons[one.exp_hash].append("this process resumed from it")
        if now - one.modified < MIN_AGE:
            reasons[one.exp_hash].append("written to within 24 h")
    for upload in store.list_uploads(keys.CHECKPOINTS):
        parsed = keys.parse_key(upload.key)
        if parsed and now - upload.started < MIN_AGE:
            reasons[parsed.exp_hash].append("something is being written into it")
    return reasons


def _delete(store: Store, going: Sequence[HeldExperiment], progress: Progress) -> set[str]:
    """Delete experiments; return those that stay, because they were written to since they were judged."""
    progress.expect(objects=sum(len(one.objects) for one in going))
    changed = set()
    for number, one in enumerate(going):
        progress.describe(f"deleting experiment {one.exp_hash}")
        try:
            if _is_as_listed(store, one):
                _delete_one(store, one)
            else:
                changed.add(one.exp_hash)
        except StoreError as error:
            gone = ", ".join(before.exp_hash for before in going[:number]) or "none"
            error.add_note(f"experiment {one.exp_hash} went in part; whole ones that went before: {gone}")
            raise
        progress.advance(objects=len(one.objects))
    return changed


def _is_as_listed(store: Store, one: HeldExperiment) -> bool:
    """Look once more: judging and deleting those before may have taken hours."""
    if one.exp_hash in current_experiments(store):
        return False
    there = {info.key: info.version for info in _held_one(store, one.exp_hash, read_parents=False).objects}
    return there == {info.key: info.version for info in one.objects}


def _spared_after_all(verdict: ExperimentVerdict) -> ExperimentVerdict:
    return replace(verdict, stays=True, why="written to meanwhile")


def _delete_one(store: Store, one: HeldExperiment) -> None:
    """Delete in steps, each after the one before it is done: a store may take the keys of one call in any order."""
    ordered = [info.key for info in deletion_order(one.objects)]
    model = [key for key in ordered if key.startswith(keys.model_prefix(one.exp_hash))]
    store.delete(model)
    for key in ordered[len(model) :]:
        store.delete([key])
