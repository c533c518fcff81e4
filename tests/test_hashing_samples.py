from __future__ import annotations

import enum
import pickle
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptstore.errors import UnknownSample, UnsupportedOperation, UnsupportedUID
from ckptstore.hashing import SampleSet, sample_digest
from ckptstore.hashing.integers import sum_of_hashes
from ckptstore.hashing.uids import MODULUS, hash_uid

uids = (
    st.text() | st.binary() | st.integers() | st.integers(-(2**63), 2**63 - 1) | st.sampled_from(["a", b"a", 1, "1"])
)
lists = st.lists(uids, max_size=20)

GOLDEN = {
    (): "4001dd2492b95308d907dcfe796b87b6524f34f4ef960dbf3894bd774217f118",
    ("a",): "1499c42207877bcaebb8993fd6fe092b96321c3909a7bfd0ffaf3a7bafe7d117",
    (b"a",): "17fca533951df6a26561a3d0e1db9d75221d836e00c6e60ac1fac9da850d741c",
    (1,): "8029272b968d8e3a2a2a10c6b40bae08a8be356c0fcc6840d38b0fac45cfde69",
    (-1, 2**63, "1", b"1", "é", "1"): "a28049d177fe0c0f011cf81f67ce3f02be8c02b34da752fecda896138ac311fe",
}


class Split(enum.IntEnum):
    TRAIN = 1


@pytest.mark.parametrize("members", GOLDEN, ids=repr)
def test_the_digest_of_samples_is_that_of_the_first_release(members):
    assert sample_digest(members) == (GOLDEN[members], len(members))


def test_the_hash_of_each_kind_of_uid_is_that_of_the_first_release():
    assert f"{hash_uid('a'):032x}" == "fdd9b77fdcaf3221d2f6d0996f37a720"
    assert f"{hash_uid(b'a'):032x}" == "992bc24a81e20fe2aa71cee2aadfd727"
    assert f"{hash_uid(97):032x}" == "3386707991a39fd6a05ae9d82cd0f549"
    assert f"{hash_uid(2**63):032x}" == "07153ea89d1b03ddee1c9371d5dd7313"


@settings(deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(0, 2**32 - 1))
def test_hashing_a_column_of_integers_is_hashing_each(integers, seed):
    from xxhash import xxh3_128_intdigest

    column = np.array(integers, np.int64)
    each = sum(xxh3_128_intdigest(one.to_bytes(8, "little", signed=True), seed) for one in integers)
    assert sum_of_hashes(column, seed) == each % MODULUS


@settings(deadline=None)
@given(lists, st.randoms())
def test_the_order_of_samples_does_not_count(members, random):
    shuffled = random.sample(members, len(members))
    assert sample_digest(shuffled) == sample_digest(members) == sample_digest(SampleSet(iter(members)))


@settings(deadline=None)
@given(lists, lists)
def test_samples_share_a_digest_only_if_they_are_the_same_multiset(one, other):
    assert (sample_digest(one) == sample_digest(other)) == (Counter(one) == Counter(other))


@settings(deadline=None)
@given(lists, lists)
def test_merging_is_adding_all(one, other):
    merged = SampleSet(one)
    merged.merge(SampleSet(other))
    bare = SampleSet.digest_only(one)
    bare.merge(SampleSet.digest_only(other))
    assert merged.digest() == bare.digest() == sample_digest(one + other)[0]
    assert len(merged) == len(bare) == len(one + other)
    assert Counter(merged) == Counter(one + other)


@settings(deadline=None)
@given(lists, st.data())
def test_discarding_is_never_having_added(members, data):
    leaving = data.draw(st.lists(st.sampled_from(range(len(members))), unique=True)) if members else []
    staying = [uid for index, uid in enumerate(members) if index not in leaving]
    for samples in (SampleSet(members), SampleSet.digest_only(members)):
        samples.discard(*[members[index] for index in leaving])
        assert (samples.digest(), len(samples)) == sample_digest(staying)


@settings(deadline=None)
@given(lists)
def test_adding_one_by_one_is_adding_all(members):
    samples = SampleSet()
    for uid in members:
        samples.add(uid)
    assert samples.digest() == SampleSet(members).digest()
    assert all(uid in samples for uid in members)


def test_text_bytes_and_int_are_three_uids():
    assert len({sample_digest([uid]) for uid in (1, "1", b"1")}) == 3
    samples = SampleSet([1, "1"])
    assert b"1" not in samples
    assert list(samples) == [1, "1"]


def test_two_uids_are_not_their_concatenation():
    assert sample_digest(["a:b"]) != sample_digest(["a", "b"])
    assert sample_digest(["ab", ""]) != sample_digest(["a", "b"])
    assert sample_digest(["a,b"]) != sample_digest(["a", "b"])


def test_a_sample_given_twice_is_used_twice():
    assert sample_digest(["a", "a"]) != sample_digest(["a"])
    samples = SampleSet(["a", "a"])
    samples.discard("a")
    assert (samples.digest(), len(samples), "a" in samples) == (*sample_digest(["a"]), True)


INTEGERS = [3, -1, 2**40]


@pytest.mark.parametrize(
    "same",
    [
        np.array(INTEGERS),
        np.array(INTEGERS).astype(">i8"),
        np.repeat(np.array(INTEGERS), 2)[::2],
        np.array(INTEGERS, dtype=object),
        list(np.array(INTEGERS)),
        torch.tensor(INTEGERS),
        list(torch.tensor(INTEGERS)),
        dict.fromkeys(INTEGERS).keys(),
        set(INTEGERS),
        (uid for uid in INTEGERS),
    ],
    ids=lambda value: type(value).__name__,
)
def test_integers_of_every_library_are_the_int(same):
    assert SampleSet(same).digest() == sample_digest(INTEGERS)[0]


def test_other_forms_of_text_and_int_are_their_base():
    assert sample_digest(np.array(["a", "bc"])) == sample_digest([np.str_("a"), "bc"]) == sample_digest(["a", "bc"])
    assert sample_digest(np.array([b"a"])) == sample_digest([b"a"])
    assert sample_digest([Split.TRAIN]) == sample_digest([1])
    assert sample_digest(np.array([1, 2**64 - 1], np.uint64)) == sample_digest([1, 2**64 - 1])
    assert sample_digest(np.array([255], np.uint8)) == sample_digest([255])
    assert sample_digest(np.array([], np.int64)) == sample_digest([])


def test_names_of_files_that_are_no_unicode_are_uids():
    assert sample_digest(["\udcff"]) == sample_digest([*["\udcff"]])
    assert sample_digest(["\udcff"]) != sample_digest(["?"])


@pytest.mark.parametrize(
    "uid", [True, np.bool_(1), torch.tensor(True), 1.0, np.float32(1), None, (1, 2), Path("a"), bytearray(b"a")]
)
def test_a_uid_of_another_type_is_refused(uid):
    with pytest.raises(UnsupportedUID, match="UIDs are str, bytes or int, convert it first"):
        sample_digest(["a", uid])


@pytest.mark.parametrize(
    "collection",
    [
        "abc",
        b"abc",
        bytearray(b"abc"),
        {"a": 1},
        None,
        5,
        np.zeros(3),
        np.zeros(2, bool),
        np.zeros((2, 2), int),
        np.array(3),
        torch.zeros(3),
        torch.zeros(3, dtype=torch.bfloat16),
        torch.zeros(3, dtype=torch.int64, device="meta"),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.tensor(3),
    ],
    ids=repr,
)
def test_a_collection_that_is_none_is_refused(collection):
    with pytest.raises(UnsupportedUID, match="sample UIDs were given as"):
        sample_digest(collection)


def test_a_refused_update_changes_nothing():
    samples = SampleSet(["a"])
    with pytest.raises(UnsupportedUID):
        samples.update([*map(str, range(70_000)), None])
    assert (samples.digest(), list(samples)) == (sample_digest(["a"])[0], ["a"])


def test_discarding_a_stranger_is_refused_and_changes_nothing():
    samples = SampleSet(["a", "b"])
    with pytest.raises(UnknownSample, match="sample 'c' was discarded 1 times and is there 0 times"):
        samples.discard("a", "c")
    with pytest.raises(UnknownSample, match="sample 'a' was discarded 2 times and is there 1 times"):
        samples.discard("a", "a")
    assert (samples.digest(), list(samples)) == (sample_digest(["a", "b"])[0], ["a", "b"])


def test_a_set_without_members_notices_only_that_it_is_empty():
    samples = SampleSet.digest_only(["a"])
    samples.discard("a")
    assert samples.digest() == sample_digest([])[0]
    with pytest.raises(UnknownSample):
        samples.discard("a")
    for asking in (lambda: "a" in samples, lambda: list(samples), lambda: SampleSet(["b"]).merge(samples)):
        with pytest.raises(UnsupportedOperation, match="members"):
            asking()


def test_a_set_without_members_takes_those_of_one_that_keeps_them():
    samples = SampleSet.digest_only([1])
    samples.merge(SampleSet([2]))
    assert samples.digest() == sample_digest([1, 2])[0]


def test_a_set_goes_to_another_process_whole():
    for samples in (SampleSet(["a", 1]), SampleSet.digest_only(["a", 1])):
        assert pickle.loads(pickle.dumps(samples)).digest() == samples.digest()
    assert repr(SampleSet()).startswith("<SampleSet of 0, ")


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
def test_batches_do_not_show(size):
    expected = sum(map(hash_uid, range(size))) % MODULUS
    halves = SampleSet.digest_only(range(size // 2))
    halves.update(np.arange(size // 2, size))
    assert sum_of_hashes(np.arange(size), 3) == expected
    assert halves.digest() == sample_digest(range(size))[0] == SampleSet(np.arange(size)).digest()


def test_an_iterable_of_any_length_is_read_in_constant_memory():
    tracemalloc.start()
    try:
        digest, count = sample_digest(f"sample-{number}" for number in range(400_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 400_000
    assert len(digest) == 64
    assert peak < 16 * 2**20
