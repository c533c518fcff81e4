"""The small files beside a checkpoint carry their own checksums."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from ckptstore.companions import (
    SealedPickle,
    digest_line,
    open_pickle,
    open_text,
    seal_pickle,
    seal_text,
)
from ckptstore.errors import CorruptCheckpoint

TEXT = "lr: 0.1\nname: 'ü\\x85'\n"


def test_a_sealed_text_comes_back_and_is_still_yaml():
    sealed = seal_text(TEXT)
    assert open_text(sealed, "x") == TEXT
    assert yaml.safe_load(sealed) == yaml.safe_load(TEXT)


def test_the_last_line_is_the_checksum_of_the_bytes_above():
    body, _, seal = seal_text(TEXT).rstrip(b"\n").rpartition(b"\n")
    assert seal == b"# sha256: " + hashlib.sha256(body + b"\n").hexdigest().encode()


def test_every_flipped_bit_of_a_text_is_found_or_changes_nothing():
    sealed = seal_text(TEXT)
    for position in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << (position % 8)
        try:
            assert open_text(bytes(flipped), "x") == TEXT
        except CorruptCheckpoint:
            continue


def test_every_cut_of_a_text_is_found():
    sealed = seal_text(TEXT)
    promise = sealed.index(b"\n") + 1
    for length in range(promise, len(sealed) - 1):
        with pytest.raises(CorruptCheckpoint):
            open_text(sealed[:length], "hp/x.yaml in memory://")


def test_the_message_names_the_file():
    with pytest.raises(CorruptCheckpoint, match=r"hp/x.yaml in memory:// does not match its own checksum"):
        open_text(seal_text(TEXT).replace(b"0.1", b"0.2"), "hp/x.yaml in memory://")


def test_a_text_of_an_older_tool_is_read_as_it_is():
    assert open_text(b"lr: 0.1\n", "x") == "lr: 0.1\n"


def test_a_text_that_is_not_utf8_is_corrupt():
    with pytest.raises(CorruptCheckpoint, match="not UTF-8 text"):
        open_text(b"lr: \xff\n", "x")


def test_a_sealed_pickle_comes_back_with_what_its_trailer_says():
    sealed = seal_pickle(SealedPickle(b"\x80\x04N.", "3.12", by_value=True))
    assert open_pickle(sealed, "x") == SealedPickle(b"\x80\x04N.", "3.12", by_value=True)


def test_every_flipped_bit_of_a_pickle_is_found_or_leaves_the_pickle_alone():
    body = b"\x80\x04N."
    sealed = seal_pickle(SealedPickle(body, "3.12", by_value=False))
    for position in range(len(sealed) * 8):
        flipped = bytearray(sealed)
        flipped[position // 8] ^= 1 << (position % 8)
        try:
            assert open_pickle(bytes(flipped), "x").body.startswith(body)
        except CorruptCheckpoint:
            continue


def test_a_pickle_of_an_older_tool_has_no_trailer():
    assert open_pickle(b"\x80\x04N.", "x") == SealedPickle(b"\x80\x04N.", None, by_value=False)


def test_the_line_of_a_backup_is_what_sha256sum_reads():
    digest = hashlib.sha256(b"data").hexdigest()
    assert digest_line(digest, "a_data.h5") == f"{digest}  a_data.h5\n".encode()
