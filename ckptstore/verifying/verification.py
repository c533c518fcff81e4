"""Verify a store, and repair it from another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from ckptstore import keys
from ckptstore.errors import KeyNotFound, SamePlace
from ckptstore.experiment import chosen_hashes
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.store import ObjectInfo, Store, redact
from ckptstore.verifying.inspecting import Inspected, Inspector
from ckptstore.verifying.repairing import REPAIRABLE, Repairer
from ckptstore.verifying.report import Finding, VerifyReport
from ckptstore.verifying.structure import dangling_finding, outside_finding, upload_finding

__all__ = ["verify"]

_WORKERS = 16
_ROUNDS = 2  # a record that was repaired may say that something else is missing


def verify(
    store: StoreLike,
    *,
    experiments: Iterable[str] | None = None,
    deep: bool = False,
    repair_from: StoreLike | None = None,
    workers: int = _WORKERS,
    progress: Progress | None = None,
) -> VerifyReport:
    """Find what is damaged, missing or strange in a store; with another store repair it.

    Without ``deep`` it takes one listing, and one small read for each experiment. With it every byte is read once:
    records, headers, padding and directory of each checkpoint, compressed or not; the seals of configs, records and
    architectures; backups against their checksums; recorded UIDs against the record. Nothing is unpickled. Bytes are
    streamed: an object of any size takes no more memory than one of 100 MB.

    What ckptstore did not write is reported and left alone. What an older tool wrote without a checksum is reported
    as "unsealed": nobody can tell whether it is sound. Damage is in the report; nothing is raised for it.

    Args:
        store: a store, or what `open_store` takes.
        experiments: full hashes; None is every experiment, and what lies outside of them.
        deep: read every byte.
        repair_from: a store that holds sound objects under the same keys. Only what is read whole there and found
            sound replaces what is damaged or missing here, whole or not at all, and is read back. A sound checkpoint
            or backup that is not the damaged one's (its digest tells) is no replacement.
        workers: how many small objects are read at a time.
        progress: is told of every byte.

    Raises:
        UnknownExperiment: nothing lies under a hash.
        SamePlace: a store cannot be repaired from itself.
        AccessDenied: it may not be listed.
        StoreUnavailable: a store could not be reached; what was repaired by then stays so.
    """
    told = progress or Silent()
    with opened(store) as place:
        if repair_from is None:
            return _verified(place, experiments, deep=deep, workers=workers, progress=told, source=None)
        with opened(repair_from) as source:
            if place.place == source.place:
                raise SamePlace(f"{redact(place.url)} cannot be repaired from itself; name another store")
            return _verified(place, experiments, deep=deep, workers=workers, progress=told, source=source)


def _verified(
    store: Store,
    experiments: Iterable[str] | None,
    *,
    deep: bool,
    workers: int,
    progress: Progress,
    source: Store | None,
) -> VerifyReport:
    listed, outside = _listed(store, experiments)
    inspector = Inspector(store, workers, progress)
    inspector.look_at(listed)
    if deep:
        inspector.read(listed)
    if source is not None:
        _repair(store, Repairer(store, source, inspector.advance_further), inspector, listed)
    outside += _add_uploads(store, listed)
    _add_dangling(store, listed)
    found = tuple(one.result() for one in listed)
    outside = outside if experiments is None else []
    return VerifyReport(redact(store.url), deep, found, tuple(sorted(outside, key=lambda finding: finding.key)))


def _listed(store: Store, experiments: Iterable[str] | None) -> tuple[list[Inspected], list[Finding]]:
    if experiments is not None:
        hashes = chosen_hashes(store, experiments)
        return [Inspected(one, list(store.list(keys.experiment_prefix(one)))) for one in hashes], []
    by_hash: defaultdict[str, list[ObjectInfo]] = defaultdict(list)
    outside = []
    for info in store.list(keys.CHECKPOINTS):
        exp_hash = keys.hash_of_key(info.key)
        if exp_hash is None:
            outside.append(outside_finding(info))
        else:
            by_hash[exp_hash].append(info)
    return [Inspected(exp_hash, objects) for exp_hash, objects in by_hash.items()], outside


def _repair(store: Store, repairer: Repairer, inspector: Inspector, listed: Sequence[Inspected]) -> None:
    for one in listed:
        for _ in range(_ROUNDS):
            broken = [
                finding for finding in one.findings.values() if finding.kind in REPAIRABLE and not finding.outcome
            ]
            if not broken:
                break
            for finding in sorted(broken, key=_repair_order):
                one.add(repairer.repaired(finding))
            one.objects = list(store.list(keys.experiment_prefix(one.exp_hash)))
            again = Inspected(one.exp_hash, one.objects, one.findings)
            inspector.look_at([again])
            one.parent = again.parent


def _repair_order(finding: Finding) -> tuple[bool, str]:
    return finding.key.endswith(f"_{keys.PROVENANCE}.yaml"), finding.key  # the record last, as always


def _add_dangling(store: Store, listed: Sequence[Inspected]) -> None:
    """Note whose parent has no record; one request for each parent that was not looked at."""
    recorded = {
        one.exp_hash: any(info.key == keys.provenance_key(one.exp_hash) for info in one.objects) for one in listed
    }
    for one in listed:
        if one.parent is None:
            continue
        if one.parent not in recorded:
            recorded[one.parent] = _has_record(store, one.parent)
        if not recorded[one.parent]:
            one.add(dangling_finding(one.exp_hash, one.parent))


def _has_record(store: Store, exp_hash: str) -> bool:
    try:
        store.stat(keys.provenance_key(exp_hash))
    except KeyNotFound:
        return False
    return True


def _add_uploads(store: Store, listed: Sequence[Inspected]) -> list[Finding]:
    """Add unfinished uploads to their experiments; return those that are in none of them."""
    by_hash, now, rest = {one.exp_hash: one for one in listed}, datetime.now(UTC), []
    for upload in store.list_uploads(keys.CHECKPOINTS):
        finding, one = upload_finding(upload, now), by_hash.get(keys.hash_of_key(upload.key) or "")
        if one is None:
            rest.append(finding)
        else:
            one.add(finding)
    return rest
