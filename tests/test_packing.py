"""The compressed container: any bytes come back, by any range, and no damage goes unnoticed."""

from __future__ import annotations

import dataclasses
import io
import itertools
import random
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptstore.errors import CorruptCheckpoint, NewerFormat, ObjectChanged
from ckptstore.packing import PackedContent, Packing, Piece, lay_out, uniform
from ckptstore.packing.container import MAX_BLOCK_BYTES, index_of
from ckptstore.packing.layout import BLOCK_BYTES, Segment
from ckptstore.store import ByteRange
from ckptstore_backends.memory import MemoryStore
from tests.archives import CountingStore

_names = itertools.count()


def _packed(data: bytes, pieces: list[Piece] | None = None, *, workers: int = 1, level: int = 3) -> bytes:
    store = MemoryStore(f"packing-{next(_names)}")
    store.put("content", data)
    cut = uniform(len(data)) if pieces is None else pieces
    packing = Packing(lambda ranges: store.get_ranges("content", ranges), cut, workers=workers, level=level)
    stored = b"".join(packing)
    assert len(stored) <= packing.size_bytes
    return stored


def _opened(stored: bytes) -> PackedContent:
    store = MemoryStore(f"packing-{next(_names)}")
    return PackedContent(store, store.put("k.pt.zst", stored))


def _weights(count: int, dtype: type = np.float32) -> bytes:
    return np.random.default_rng(1).normal(0, 0.02, count).astype(dtype).tobytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), content=st.binary(max_size=3000), width=st.sampled_from([None, 1, 2, 4, 8]))
def test_any_bytes_come_back_by_any_ranges(data, content, width):
    sizes = data.draw(st.lists(st.integers(1, 700)), "sizes") + [3000] * 5
    edges = [0, *(edge for edge in itertools.accumulate(sizes) if edge < len(content)), len(content)]
    pieces = [Piece(start, stop - start, width) for start, stop in itertools.pairwise(edges) if stop > start]
    packed = _opened(_packed(content, pieces))
    ranges = data.draw(st.lists(st.builds(ByteRange, st.integers(0, 3100), st.integers(0, 3100))), "ranges")
    wanted = [*ranges, ByteRange(0), ByteRange(-7)]
    assert packed.size_bytes == len(content)
    for asked, found in zip(wanted, packed.read(wanted), strict=True):
        start, stop = asked.within(len(content))
        assert found == content[start:stop]


@pytest.mark.parametrize("workers", [1, 3])
def test_many_blocks_are_compressed_in_threads_and_come_back_in_order(workers):
    content = _weights(1_500_000) + b"behind"
    pieces = lay_out([Segment(0, 4)], tail_start=6_000_000, size_bytes=len(content))
    assert [piece.size_bytes for piece in pieces] == [BLOCK_BYTES] * 5 + [6_000_000 - 5 * BLOCK_BYTES, 6]
    stored = _packed(content, pieces, workers=workers)
    assert stored == _packed(content, pieces, workers=2)
    (found,) = _opened(stored).read([ByteRange(0)])
    assert found == content


def test_the_element_size_of_unknown_bytes_is_found():
    for dtype, width in ((np.float16, 2), (np.float32, 4), (np.float64, 8)):
        blocks = _opened(_packed(_weights(100_000, dtype))).blocks
        assert [block.width for block in blocks] == [width] * len(blocks)


def test_small_tensors_share_a_block_with_their_neighbours_and_large_ones_begin_where_they_lie():
    segments = [Segment(0, 4), Segment(64_000, 8), Segment(64_064, 4), Segment(128_000, 2), Segment(300_032, 2)]
    pieces = lay_out(segments, tail_start=500_001, size_bytes=500_700)
    assert pieces == [Piece(0, 128_000, 4), Piece(128_000, 372_001, 2), Piece(500_001, 699, 1)]


def test_the_stored_file_is_made_of_standard_zstd_frames():
    content = _weights(100_000)
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(_packed(content)), read_across_frames=True)
    planes = np.frombuffer(reader.read(), np.uint8)
    assert planes.reshape(4, -1).T.tobytes() == content


def test_every_flipped_bit_is_found():
    content = _weights(40_000) + bytes(5_000)
    stored = _packed(content, [Piece(0, 100_000, 4), Piece(100_000, 65_000, None)])
    chance = random.Random(3)
    for position in {*range(len(stored) - 200, len(stored)), *chance.sample(range(len(stored)), 300)}:
        damaged = bytearray(stored)
        damaged[position] ^= 1 << chance.randrange(8)
        with pytest.raises(CorruptCheckpoint):
            list(_opened(bytes(damaged)).read([ByteRange(0)]))


def test_every_truncation_is_found():
    stored = _packed(_weights(2_000))
    for length in [*range(200), *range(200, len(stored), 37), len(stored) - 1]:
        with pytest.raises(CorruptCheckpoint, match="truncated"):
            _opened(stored[:length])


def test_a_file_of_a_newer_version_says_so():
    stored = _packed(b"content")
    with pytest.raises(NewerFormat, match="upgrade ckptstore"):
        _opened(stored.replace(b"ckptstore-zst 1\n", b"ckptstore-zst 2\n"))


@pytest.mark.parametrize(
    ("forgery", "said"),
    [
        ({"size_bytes": MAX_BLOCK_BYTES + 1}, "larger than this version writes"),
        ({"size_bytes": 9_000_000}, "not of the size that the index gives"),
        ({"size_bytes": 0}, "empty block"),
        ({"width": 3}, "elements of 3 bytes"),
    ],
)
def test_an_index_that_lies_about_sizes_allocates_nothing(forgery, said):
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    block = _opened(_packed(bytes(1000), [Piece(0, 1000, 1)])).blocks[0]
    width = forgery.get("width", 1)
    facts = {"planes": (len(bomb) - width + 1, *[1] * (width - 1)), "crc32": zlib.crc32(bomb), **forgery}
    forged = dataclasses.replace(block, **facts)
    with pytest.raises(CorruptCheckpoint, match=said):
        list(_opened(bomb + index_of([forged], "00" * 16)).read([ByteRange(0)]))


def test_the_tail_costs_one_request_and_a_range_only_its_blocks():
    content = _weights(2_000_000) + b"t" * 9_000
    pieces = lay_out([Segment(0, 4)], tail_start=8_000_000, size_bytes=len(content))
    store = CountingStore(f"packing-{next(_names)}")
    info = store.put("k.pt.zst", _packed(content, pieces))
    packed = PackedContent(store, info)
    assert packed.tail().endswith(b"t" * 9_000)
    assert store.requests == ["get_ranges"]
    (found,) = packed.read([ByteRange(3_000_000, 10)])
    assert found == content[3_000_000:3_000_010]
    assert store.requests == ["get_ranges"] * 2


def test_reads_are_pinned_to_the_version_that_was_opened():
    store = MemoryStore(f"packing-{next(_names)}")
    packed = PackedContent(store, store.put("k.pt.zst", _packed(_weights(400_000))))
    store.put("k.pt.zst", _packed(_weights(400_000)))
    with pytest.raises(ObjectChanged):
        list(packed.read([ByteRange(0, 10)]))


def test_compressing_no_repetitions_costs_next_to_nothing():
    noise = random.Random(5).randbytes(100_000)
    assert len(_packed(noise)) < 100_000 * 1.002 + 200
    assert len(_packed(bytes(100_000))) < 200
