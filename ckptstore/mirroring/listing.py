"""Source and target side by side: what each holds of an experiment."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, islice

from ckptstore import keys
from ckptstore.mirroring.ahead import ahead
from ckptstore.objects import ObjectInfo
from ckptstore.store import Store

_BATCH = 500
_BATCHES_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Both:
    """What two stores hold below one prefix.

    Attributes:
        prefix: the folder of an experiment, or `keys.DATA` or `keys.LOGS`.
        source: the source's objects by key.
        target: the target's.
        foreign: keys of either that are no part of the layout.
    """

    prefix: str
    source: dict[str, ObjectInfo] = field(default_factory=dict)
    target: dict[str, ObjectInfo] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()

    @property
    def exp_hash(self) -> str | None:
        """The experiment; None for what is the user's own."""
        return keys.hash_of_prefix(self.prefix)


def one_folder(source: Store, target: Store, prefix: str) -> Both:
    """Return what both stores hold below a prefix. One listing of each."""
    theirs = ahead(_batches(target.list(prefix)), _BATCHES_AHEAD)
    with closing(theirs):
        first = next(theirs, [])
        ours = list(source.list(prefix))
        return _both(prefix, ours, [*first, *(info for batch in theirs for info in batch)])


def all_experiments(source: Store, target: Store) -> Iterator[Both]:
    """Yield every experiment of the source, one at a time, in the order of their hashes. One listing of each store.

    What lies under `keys.CHECKPOINTS` in no experiment's folder comes last, with an empty prefix.
    """
    strange: list[str] = []
    with closing(_experiments(target)) as theirs, closing(_experiments(source)) as ours:
        there = next(theirs, None)
        for prefix, objects in ours:
            if not prefix:
                strange += [info.key for info in objects]
                continue
            while there is not None and there[0] < prefix:
                there = next(theirs, None)
            found = there[1] if there is not None and there[0] == prefix else []
            yield _both(prefix, objects, found)
    if strange:
        yield Both("", foreign=tuple(strange))


def _both(prefix: str, source: Iterable[ObjectInfo], target: Iterable[ObjectInfo]) -> Both:
    found = Both(prefix, {info.key: info for info in source}, {info.key: info for info in target})
    if found.exp_hash is None:
        return found
    strange = sorted(key for key in {**found.source, **found.target} if keys.parse_key(key) is None)
    return Both(prefix, _without(found.source, strange), _without(found.target, strange), tuple(strange))


def _without(objects: dict[str, ObjectInfo], strange: list[str]) -> dict[str, ObjectInfo]:
    for key in strange:
        objects.pop(key, None)
    return objects


def _experiments(store: Store) -> Generator[tuple[str, list[ObjectInfo]]]:
    """Yield the objects of each experiment with its prefix, in the order of hashes; what is in none has no prefix."""
    with closing(ahead(_batches(store.list(keys.CHECKPOINTS)), _BATCHES_AHEAD)) as batches:
        for prefix, objects in groupby((info for batch in batches for info in batch), _folder):
            yield prefix, list(objects)


def _folder(info: ObjectInfo) -> str:
    return _experiment_folder(info.key[: info.key.find("/", len(keys.CHECKPOINTS)) + 1])


@lru_cache(maxsize=1024)
def _experiment_folder(prefix: str) -> str:
    return prefix if keys.hash_of_prefix(prefix) else ""


def _batches(objects: Iterator[ObjectInfo]) -> Generator[list[ObjectInfo]]:
    while batch := list(islice(objects, _BATCH)):
        yield batch
