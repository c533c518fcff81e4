"""Bytes that are read by ranges are the file that they would be on a disk."""

from __future__ import annotations

import io
import os

from hypothesis import given
from hypothesis import strategies as st

from ckptstore.rangedfile import RangedFile

DATA = bytes(range(250))

moves = st.one_of(
    st.tuples(st.just("seek"), st.integers(0, 300), st.just(os.SEEK_SET)),
    st.tuples(st.just("seek"), st.integers(0, 60), st.sampled_from([os.SEEK_CUR, os.SEEK_END])),
    st.tuples(st.just("read"), st.integers(0, 120)),
)


@given(st.lists(moves, max_size=20), st.integers(1, 64))
def test_it_reads_what_a_file_of_these_bytes_would(steps, window_bytes):
    asked = []

    def read(wanted):
        asked.append(wanted)
        return DATA[wanted.start :][: wanted.length]

    ranged, plain = RangedFile(read, len(DATA), window_bytes), io.BytesIO(DATA)
    for name, *arguments in steps:
        assert getattr(ranged, name)(*arguments) == getattr(plain, name)(*arguments)
        assert ranged.tell() == plain.tell()
    assert all(wanted.length >= window_bytes for wanted in asked)
