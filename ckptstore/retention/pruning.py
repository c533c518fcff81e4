"""Delete the checkpoints that no policy keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ckptstore.checkpoints import CheckpointRecord, Forms
from ckptstore.clock import store_time
from ckptstore.errors import StoreError
from ckptstore.experiment import Experiment, chosen_hashes
from ckptstore.metrics import numbers_in
from ckptstore.opening import StoreLike, opened
from ckptstore.ordering import Headers
from ckptstore.progress import Progress, Silent
from ckptstore.records import Header, RecordCache, read_header
from ckptstore.retention.in_use import resumed_steps
from ckptstore.retention.planning import Guard, Verdict, plan_experiment
from ckptstore.retention.policies import Policy
from ckptstore.store import Store, redact

__all__ = ["PruneReport", "check_policy", "prune", "prune_checkpoints"]

_DELETED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What went, what stayed, and why.

    Attributes:
        url: the store, without credentials.
        dry_run: nothing was deleted; this is what would have been.
        verdicts: on each checkpoint, by experiment, from the oldest to the newest.
    """

    url: str
    dry_run: bool
    verdicts: tuple[Verdict, ...]

    @property
    def gone(self) -> tuple[Verdict, ...]:
        """Those that went."""
        return tuple(verdict for verdict in self.verdicts if not verdict.stays)

    @property
    def kept(self) -> tuple[Verdict, ...]:
        """Those that stayed."""
        return tuple(verdict for verdict in self.verdicts if verdict.stays)

    @property
    def freed_bytes(self) -> int:
        """What those that went took in the store."""
        return sum(verdict.size_bytes for verdict in self.gone)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        verdicts = [
            {
                **asdict(verdict),
                "modified": verdict.modified.isoformat(),
                "saved_at": verdict.saved_at and verdict.saved_at.isoformat(),
                "keys": list(verdict.keys),
            }
            for verdict in self.verdicts
        ]
        return {"url": self.url, "dry_run": self.dry_run, "freed_bytes": self.freed_bytes, "verdicts": verdicts}


def prune(
    store: StoreLike,
    keep: Policy,
    *,
    experiments: Iterable[str] | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PruneReport:
    """Delete the checkpoints that a policy does not keep; compressed ones are like any other.

    Whatever the policy says, these stay: in each experiment the newest sound checkpoint (by step and by time), what
    this process resumed from, the newest three, and what is younger than 24 hours by the store's clock. What is
    deleted was decided on a fresh listing, after the newest one's index was read once more. Nothing but checkpoints
    is deleted, and nothing of an experiment that was not named.

    One listing for each experiment, a second one where something goes; where the policy asks for a metric, one suffix
    read for each checkpoint that was not seen before.

    Args:
        store: a store, or what `open_store` takes.
        keep: such as ``Latest(3) | Best(1, "loss", "min")``.
        experiments: full hashes; None is every experiment.
        dry_run: only say what would go. Ages are then told by this machine's clock, as asking the store for its
            own takes a write.
        progress: is told how far it is.

    Raises:
        UnknownExperiment: nothing lies under a hash; nothing was deleted.
        ValueError: no checkpoint has the metric that the policy asks for; nothing was deleted.
        StoreError: the store refused a deletion; the error's note says what had gone by then. What is left is whole,
            and the next call goes on.
    """
    check_policy(keep)
    told = progress or Silent()
    with opened(store) as place:
        hashes = chosen_hashes(place, experiments)
        headers = partial(RecordCache().headers, place)
        _check_metrics(place, hashes, keep, headers)
        now = store_time(place) if hashes and not dry_run else datetime.now(UTC)
        verdicts: list[Verdict] = []
        for exp_hash in hashes:
            told.describe(f"pruning {exp_hash}")
            guard = Guard(resumed=resumed_steps(place, exp_hash))
            verdicts += prune_checkpoints(place, exp_hash, keep, guard=guard, now=now, dry_run=dry_run, progress=told)
        return PruneReport(redact(place.url), dry_run, tuple(verdicts))


def prune_checkpoints(
    store: Store,
    exp_hash: str,
    keep: Policy,
    *,
    guard: Guard,
    now: datetime | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Do as `prune` for one experiment, under the given guard; return the verdicts.

    Args:
        store: where it lies.
        exp_hash: the experiment.
        keep: what is wanted.
        guard: what stays whatever is wanted.
        now: the time by the store's clock; None takes that of the last checkpoint in `guard.own`, for one who has
            just saved it.
        dry_run: only say what would go.
        progress: is told how far it is.
    """
    told = progress or Silent()
    plan = partial(_plan, store, exp_hash, keep, guard=guard, now=now)
    verdicts = plan(soundness=partial(RecordCache().headers, store))
    if dry_run or all(verdict.stays for verdict in verdicts):
        return verdicts
    verdicts = plan(soundness=partial(_fresh_headers, store))  # of a listing that is as new as can be
    _delete(store, exp_hash, [verdict for verdict in verdicts if not verdict.stays], told)
    return verdicts


def check_policy(keep: Policy) -> Policy:
    """Return the policy if it is one.

    Raises:
        TypeError: otherwise.
    """
    if not isinstance(keep, Policy):
        raise TypeError(f"keep is {keep!r}, no policy; give one such as Latest(3) | Best(1, 'loss', 'min')")
    return keep


def _plan(
    store: Store, exp_hash: str, keep: Policy, *, guard: Guard, now: datetime | None, soundness: Headers
) -> list[Verdict]:
    held = Experiment(store, exp_hash).forms()
    if not held:
        return []
    time = now or _last_written(held, guard)
    headers = partial(RecordCache().headers, store)
    return plan_experiment(held, keep, guard=guard, now=time, headers=headers, soundness=soundness)


def _last_written(held: Sequence[Forms], guard: Guard) -> datetime:
    """Return when this process wrote last: what others brought may have the time of a clock that is wrong."""
    records = [forms.record for forms in held]
    own = [record for record in records if guard.own.get(record.info.key) == record.info.version]
    return max(record.modified for record in own or records)


def _fresh_headers(store: Store, records: Sequence[CheckpointRecord]) -> list[Header]:
    return [read_header(store, record) for record in records]


def _check_metrics(store: Store, hashes: Iterable[str], keep: Policy, headers: Headers) -> None:
    missing, there, looked = set(keep.metrics), set[str](), False
    for exp_hash in hashes if missing else ():
        for header in headers(Experiment(store, exp_hash).checkpoints()):
            looked = True
            there.update(header.metadata)
            missing.difference_update(numbers_in(header.metadata))
        if not missing:
            return
    if missing and looked:
        raise ValueError(
            f"no checkpoint has the metric {', '.join(map(repr, sorted(missing)))} as a finite number; "
            f"in their metadata is: {', '.join(sorted(there)) or 'nothing'}; nothing was deleted"
        )


def _delete(store: Store, exp_hash: str, going: Sequence[Verdict], progress: Progress) -> None:
    progress.expect(objects=len(going))
    for start in range(0, len(going), _DELETED_AT_ONCE):
        batch = going[start : start + _DELETED_AT_ONCE]
        try:
            store.delete([key for verdict in batch for key in verdict.keys])
        except StoreError as error:
            error.add_note(f"{start} of {len(going)} checkpoints of {exp_hash} went before; the rest is whole")
            raise
        progress.advance(objects=len(batch))
