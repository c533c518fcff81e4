"""Find out what there is to do: compare what both sides hold, several objects at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

from ckptstore import keys
from ckptstore.errors import CkptStoreError, KeyNotFound, ObjectChanged
from ckptstore.mirroring.comparing import Comparison, Verdict
from ckptstore.mirroring.journal import Journal, sides_of
from ckptstore.mirroring.listing import Both, one_folder
from ckptstore.mirroring.newest import newest_steps
from ckptstore.mirroring.planning import Choice, Plan, Stage, chosen, plan, stage_of
from ckptstore.mirroring.report import Failure
from ckptstore.objects import ObjectInfo
from ckptstore.store import Store

_AT_ONCE = 32  # experiments whose objects are being compared


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two objects and how they compare; no verdict where one is gone."""

    verdict: Verdict | None
    ours: ObjectInfo | None
    theirs: ObjectInfo | None


_Verdicts: TypeAlias = dict[str, Verdict | Future[_Compared]]


class Survey:
    """Makes plans.

    Args:
        source: the one store.
        target: the other.
        journal: what is known already; asked unless the comparison is thorough.
        thorough: read every byte of both sides.
        pool: does the comparing.

    Attributes:
        failures: objects that could not be compared.
        gone: objects that were deleted from the source meanwhile.
    """

    def __init__(
        self, source: Store, target: Store, journal: Journal, pool: ThreadPoolExecutor, *, thorough: bool
    ) -> None:
        self._source, self._target, self._journal, self._pool = source, target, journal, pool
        self._thorough = thorough
        self._comparison = Comparison(source, target, thorough=thorough)
        self.failures: list[Failure] = []
        self.gone: list[str] = []

    def plans(self, folders: Iterable[Both], choice: Choice, latest: int | None = None) -> Iterator[Plan]:
        """Yield what is to be done with each folder, in the order given.

        Args:
            folders: what both sides hold.
            choice: what is asked.
            latest: only so many checkpoints of each experiment, the newest; None is all.
        """
        asked: deque[tuple[Both, Choice, _Verdicts]] = deque()
        for both in map(self._settled, folders):
            own = choice
            if latest is not None and both.exp_hash is not None:
                own = replace(choice, steps=newest_steps(self._source, both.source, latest))
            asked.append((both, own, self._verdicts(both, own)))
            if len(asked) > _AT_ONCE:
                yield self._plan(*asked.popleft())
        while asked:
            yield self._plan(*asked.popleft())

    def _settled(self, both: Both) -> Both:
        """Look again where checkpoints came into the listing and the record did not: they are listed first."""
        if both.exp_hash is None or keys.provenance_key(both.exp_hash) in both.source:
            return both
        if not any(stage_of(key) is Stage.CHECKPOINTS for key in both.source):
            return both
        return one_folder(self._source, self._target, both.prefix)

    def _verdicts(self, both: Both, choice: Choice) -> _Verdicts:
        known = {} if self._thorough else self._journal.equal(both.prefix)
        verdicts: _Verdicts = {}
        for ours in chosen(both, choice):
            theirs = both.target.get(ours.key)
            if theirs is None:
                continue
            if known.get(ours.key) == sides_of(ours, theirs):
                verdicts[ours.key] = Verdict.SAME
            else:
                verdicts[ours.key] = self._pool.submit(self._compared, ours, theirs)
        return verdicts

    def _compared(self, ours: ObjectInfo, theirs: ObjectInfo) -> _Compared:
        try:
            return self._judged(ours, theirs)
        except (KeyNotFound, ObjectChanged):
            return self._judged_anew(ours.key)

    def _judged(self, ours: ObjectInfo, theirs: ObjectInfo) -> _Compared:
        verdict = self._comparison.of(ours, theirs)
        if verdict is Verdict.SAME:
            self._journal.remember(ours, theirs)
        return _Compared(verdict, ours, theirs)

    def _judged_anew(self, key: str) -> _Compared:
        ours, theirs = current(self._source, key), current(self._target, key)
        return _Compared(None, ours, theirs) if ours is None or theirs is None else self._judged(ours, theirs)

    def _plan(self, both: Both, choice: Choice, verdicts: _Verdicts) -> Plan:
        resolved = {key: self._resolved(both, key, verdict) for key, verdict in verdicts.items()}
        return plan(both, choice, resolved.__getitem__)

    def _resolved(self, both: Both, key: str, verdict: Verdict | Future[_Compared]) -> Verdict | None:
        """Return the verdict, and bring what both sides hold up to date."""
        if isinstance(verdict, Verdict):
            return verdict
        try:
            compared = verdict.result()
        except CkptStoreError as error:
            self.failures.append(Failure(key, f"could not be compared: {error}"))
            return None
        if compared.ours is None:
            self.gone.append(key)
        for side, info in ((both.source, compared.ours), (both.target, compared.theirs)):
            if info is None:
                del side[key]
            else:
                side[key] = info
        return compared.verdict


def current(store: Store, key: str) -> ObjectInfo | None:
    """Return what a store says of an object now, None where there is none."""
    try:
        return store.stat(key)
    except KeyNotFound:
        return None
