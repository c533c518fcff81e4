"""Every experiment of a store at a glance, and the tree that their parents make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ckptstore import keys
from ckptstore.checkpoints import CheckpointRecord, checkpoint_records
from ckptstore.comparing.metrics import Best, Metric, best_of
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint
from ckptstore.experiment import Experiment
from ckptstore.objects import ObjectInfo
from ckptstore.opening import StoreLike, opened
from ckptstore.progress import Progress, Silent
from ckptstore.provenance import Provenance
from ckptstore.records import Header, RecordCache
from ckptstore.store import Store
from ckptstore.timestamps import parsed_timestamp

__all__ = ["Branch", "Overview", "grown", "lineage", "overview", "overviews", "record_or_problem"]

_SILENT = Silent()
_READERS = 16


@dataclass(frozen=True, slots=True)
class Overview:
    """An experiment at a glance.

    Attributes:
        exp_hash: its hash.
        created_at: when its record was made; None where there is no sound record.
        saved_at: when the newest checkpoint was saved; by the store's clock where its header was not read.
        parent: the experiment it came out of.
        steps: of its checkpoints, ascending.
        objects: how many lie under the hash.
        size_bytes: of all of them.
        sample_count: active samples, None where they were never given.
        best: the checkpoint with the best metric; None where none is known.
        problem: what is wrong with its record; "" where nothing is.
    """

    exp_hash: str
    created_at: datetime | None
    saved_at: datetime | None
    parent: str | None
    steps: tuple[int, ...]
    objects: int
    size_bytes: int
    sample_count: int | None
    best: Best | None
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        times = {name: when and when.isoformat() for name, when in (("created_at", self.created_at),
                                                                     ("saved_at", self.saved_at))}  # fmt: skip
        return {**asdict(self), **times, "steps": list(self.steps)}


@dataclass(frozen=True, slots=True)
class Branch:
    """An experiment and those that came out of it.

    Attributes:
        experiment: its overview.
        children: the eldest first.
    """

    experiment: Overview
    children: tuple[Branch, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {**self.experiment.as_dict(), "children": [child.as_dict() for child in self.children]}


def lineage(
    store: StoreLike, *, metric: Metric | None = None, cache: RecordCache | None = None, progress: Progress = _SILENT
) -> tuple[Branch, ...]:
    """Return the experiments of a store as trees by parent, the eldest first.

    One whose parent is not in the store is a root. The arguments and the cost are those of `overviews`; a store is
    an open one, or what `open_store` takes.
    """
    with opened(store) as place:
        return grown(overviews(place, metric=metric, cache=cache, progress=progress))


def overviews(
    store: Store,
    *,
    metric: Metric | None = None,
    cache: RecordCache | None = None,
    most_headers: int | None = None,
    progress: Progress = _SILENT,
) -> list[Overview]:
    """Return every experiment of a store at a glance, by hash.

    One listing of all experiments, one read for each record, and one suffix read for each checkpoint whose header
    the cache does not know.

    Args:
        store: the store.
        metric: what is best; by default each experiment's own `chosen_metric`.
        cache: of headers; by default the one in the user's cache folder.
        most_headers: where there are more checkpoints than this, no header is read; None is no bound.
        progress: told of the headers to read.
    """
    by_hash: dict[str, list[ObjectInfo]] = defaultdict(list)
    for info in store.list(keys.CHECKPOINTS):
        if exp_hash := keys.hash_of_key(info.key):
            by_hash[exp_hash].append(info)
    records = {exp_hash: checkpoint_records(objects, exp_hash) for exp_hash, objects in by_hash.items()}
    wanted = most_headers is None or sum(map(len, records.values())) <= most_headers
    headers = _headers(store, records, cache or RecordCache(), progress) if wanted else {}
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda exp_hash: record_or_problem(Experiment(store, exp_hash)), by_hash)
        return [
            _overview(exp_hash, objects, records[exp_hash], headers, provenance, metric)
            for (exp_hash, objects), provenance in zip(by_hash.items(), found, strict=True)
        ]


def overview(
    exp_hash: str,
    objects: Sequence[ObjectInfo],
    headers: Sequence[Header],
    provenance: Provenance | str,
    metric: Metric | None = None,
) -> Overview:
    """Return one experiment at a glance, from what was read of it; no request is made.

    Args:
        exp_hash: the experiment.
        objects: all of them.
        headers: of its checkpoints, in the order of `checkpoint_records`.
        provenance: its record, or what is wrong with it.
        metric: what is best; by default its own `chosen_metric`.
    """
    records = checkpoint_records(objects, exp_hash)
    by_key = {record.info.key: header for record, header in zip(records, headers, strict=True)}
    return _overview(exp_hash, objects, records, by_key, provenance, metric)


def _headers(
    store: Store, records: Mapping[str, list[CheckpointRecord]], cache: RecordCache, progress: Progress
) -> dict[str, Header]:
    every = [record for of_one in records.values() for record in of_one]
    found = cache.headers(store, every, progress=progress)
    return {record.info.key: header for record, header in zip(every, found, strict=True)}


def record_or_problem(experiment: Experiment) -> Provenance | str:
    """Return the record of an experiment, or what is wrong with it. One read."""
    try:
        return experiment.provenance()
    except CheckpointNotFound:
        return experiment.why_no_record()
    except CorruptCheckpoint as error:
        return str(error)


def _overview(
    exp_hash: str,
    objects: Sequence[ObjectInfo],
    records: list[CheckpointRecord],
    headers: Mapping[str, Header],
    provenance: Provenance | str,
    metric: Metric | None,
) -> Overview:
    record = None if isinstance(provenance, str) else provenance
    known = [(found, headers[found.info.key]) for found in records if found.info.key in headers]
    times = {found.info.key: header.saved_at for found, header in known}
    return Overview(
        exp_hash=exp_hash,
        created_at=parsed_timestamp(record.created_at) if record else None,
        saved_at=max((times.get(found.info.key) or found.modified for found in records), default=None),
        parent=record.parent if record else None,
        steps=tuple(found.step for found in records),
        objects=len(objects),
        size_bytes=sum(info.size_bytes for info in objects),
        sample_count=record.sample_count if record else None,
        best=best_of([(found.step, header.metadata) for found, header in known], metric),
        problem=provenance if isinstance(provenance, str) else "",
    )


def grown(experiments: Iterable[Overview]) -> tuple[Branch, ...]:
    """Return experiments as trees by parent, the eldest first; whoever is its own ancestor is a root."""
    by_age = sorted(
        experiments, key=lambda found: (found.created_at or datetime.max.replace(tzinfo=UTC), found.exp_hash)
    )
    parents = {found.exp_hash: found.parent for found in by_age}
    children: dict[str | None, list[Overview]] = defaultdict(list)
    for found in by_age:
        is_root = found.parent not in parents or found.exp_hash in _ancestors(found.exp_hash, parents)
        children[None if is_root else found.parent].append(found)
    return tuple(_branch(root, children) for root in children[None])


def _branch(found: Overview, children: Mapping[str | None, list[Overview]]) -> Branch:
    return Branch(found, tuple(_branch(child, children) for child in children.get(found.exp_hash, ())))


def _ancestors(exp_hash: str, parents: Mapping[str, str | None]) -> Iterator[str]:
    seen: set[str] = set()
    current = parents.get(exp_hash)
    while current is not None and current not in seen:
        yield current
        seen.add(current)
        current = parents.get(current)
