"""The active samples of an experiment, as a multiset with a digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Self

from ckptstore.errors import UnknownSample, UnsupportedOperation
from ckptstore.hashing.encoding import digest
from ckptstore.hashing.uids import MODULUS, UID, batches, check_uid, hash_uid, sum_of_batch


class SampleSet:
    """A multiset of sample UIDs: str, bytes or int, mixed as they come.

    Its digest does not depend on the order, and a change costs as much as what changed. A UID that is given twice is
    a sample used twice: the padding of a DistributedSampler counts. 1, "1" and b"1" are three UIDs; a numpy or torch
    integer is the int that it equals.

    The members are kept, so discarding one that is not there is an error. `SampleSet.digest_only` keeps none: it
    takes the same few bytes however many samples there are, and cannot tell.

    Raises:
        UnsupportedUID: a UID of another type, or a collection that is a str, bytes or a mapping; the set is then as
            it was before.
    """

    __slots__ = ("_count", "_members", "_total")

    def __init__(self, uids: Iterable[Any] = ()) -> None:
        self._count = 0
        self._total = 0
        self._members: Counter[UID] | None = Counter()
        self.update(uids)

    @classmethod
    def digest_only(cls, uids: Iterable[Any] = ()) -> Self:
        """Return a set that keeps only the count and the sum of hashes.

        The price: it has no members to iterate or ask for, and discarding a stranger goes unnoticed and leaves a
        digest that stands for nothing.
        """
        bare = cls()
        bare._members = None
        bare.update(uids)
        return bare

    def add(self, uid: Any) -> None:
        """Add one sample."""
        self.update((uid,))

    def update(self, uids: Iterable[Any]) -> None:
        """Add all samples of an iterable, which is read once and, by a set without members, never held whole."""
        count, total, members = 0, 0, Counter[UID]()
        for batch in batches(uids):
            count += len(batch)
            total += sum_of_batch(batch)
            if self._members is not None:
                members.update(batch if isinstance(batch, list) else batch.tolist())
        self._take(count, total, members)

    def discard(self, *uids: Any) -> None:
        """Take out one use of each sample given; all of them or none.

        Raises:
            UnknownSample: a UID is not a member, or given more often than it is one.
        """
        leaving = Counter(map(check_uid, uids))
        for uid, times in leaving.items():
            self._check_member(uid, times)
        for uid, times in leaving.items():
            self._forget(uid, times)
        self._count -= len(uids)
        self._total = (self._total - sum(hash_uid(uid) * times for uid, times in leaving.items())) % MODULUS

    def merge(self, other: SampleSet) -> None:
        """Add all samples of another set, such as another rank's shard.

        Raises:
            UnsupportedOperation: the other keeps no members and this one does.
        """
        if self._members is not None and other._members is None:
            raise UnsupportedOperation(
                "a SampleSet without members was merged into one that keeps them; merge into SampleSet.digest_only()"
            )
        self._take(other._count, other._total, other._members)

    def digest(self) -> str:
        """Return the SHA-256, 64 hex digits, of the count and of the sum mod 2**128 of the hashes of all UIDs."""
        return digest([self._count, self._total])

    def __len__(self) -> int:
        return self._count

    def __contains__(self, uid: object) -> bool:
        return check_uid(uid) in self._kept()

    def __iter__(self) -> Iterator[UID]:
        return self._kept().elements()

    def __repr__(self) -> str:
        return f"<SampleSet of {self._count}, {self.digest()[:16]}>"

    def _take(self, count: int, total: int, members: Counter[UID] | None) -> None:
        if self._members is not None and members:
            self._members.update(members)
        self._count += count
        self._total = (self._total + total) % MODULUS

    def _check_member(self, uid: UID, times: int) -> None:
        there = self._count if self._members is None else self._members.get(uid, 0)
        if there < times:
            raise UnknownSample(
                f"sample {uid!r:.80} was discarded {times} times and is there {there} times; add it first"
            )

    def _forget(self, uid: UID, times: int) -> None:
        if self._members is None:
            return
        self._members[uid] -= times
        if not self._members[uid]:
            del self._members[uid]

    def _kept(self) -> Counter[UID]:
        if self._members is None:
            raise UnsupportedOperation("this SampleSet keeps no members; make it with SampleSet(uids)")
        return self._members


def sample_digest(uids: Iterable[Any] | SampleSet) -> tuple[str, int]:
    """Return the digest and the number of samples, reading an iterable once, in constant memory.

    Raises:
        UnsupportedUID: a UID is not a str, bytes or int, or the collection is a str, bytes or a mapping.
    """
    samples = uids if isinstance(uids, SampleSet) else SampleSet.digest_only(uids)
    return samples.digest(), len(samples)
