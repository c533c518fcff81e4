"""Headers of checkpoints: read from their ends, remembered by version, and never trusted when damaged."""

from __future__ import annotations

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ckptstore import CheckpointManagerV2, keys
from ckptstore.cachefile import cache_folder, read_cache, write_cache
from ckptstore.experiment import Experiment
from ckptstore.records import RecordCache
from tests.archives import CountingStore
from tests.experiments import flip, fresh_memory, put_checkpoint
from tests.models import Job

HASH = "ab" * 8


@pytest.fixture
def store():
    return CountingStore(fresh_memory()._name)


def headers(store, cache=None):
    return (cache or RecordCache()).headers(store, Experiment(store, HASH).checkpoints())


def test_a_header_says_what_was_saved(tmp_path):
    job = Job().train(1)
    with CheckpointManagerV2(tmp_path) as manager:
        manager.update_experiment_hash(job.model, {})
        manager.save_model_checkpoint(
            job.model, step=1, metadata={"loss": 0.5, "note": "x" * 2000, "t": torch.ones(2)}
        )
        manager.resume(job.model)
        manager.save_model_checkpoint(job.model, step=2)
        records = Experiment(manager.store, str(manager.exp_hash)).checkpoints()
        first, second = RecordCache().headers(manager.store, records)
    assert first.condition == "sound"
    assert first.metadata == {"loss": 0.5, "note": "x" * 1000, "t": "<tensor 2>"}
    assert first.run_id == manager.run_id
    assert first.saved_at
    assert first.saved_at.tzinfo
    assert len(first.digest or "") == 64
    assert second.resumed_from
    assert second.resumed_from["step"] == 1


def test_what_was_read_once_is_remembered_until_the_object_changes(store):
    for step in (1, 2, 3):
        put_checkpoint(store, HASH, step, {"loss": float("nan") if step == 2 else step})
    first = headers(store)
    store.requests.clear()
    again = headers(store)
    assert store.requests == []
    assert math.isnan(again[1].metadata["loss"])
    assert [header.digest for header in again] == [header.digest for header in first]
    put_checkpoint(store, HASH, 2, {"loss": 9.0})
    assert headers(store)[1].metadata == {"loss": 9.0}
    assert store.requests == ["get_ranges"]


def test_what_is_not_sound_says_so(store):
    put_checkpoint(store, HASH, 1)
    flip(store, put_checkpoint(store, HASH, 2), -10)
    saved = io.BytesIO()
    torch.save({}, saved)
    store.put(keys.checkpoint_key(HASH, 3), saved.getvalue())
    listed = Experiment(store, HASH).checkpoints()
    store.delete([keys.checkpoint_key(HASH, 1)])
    assert [header.condition for header in RecordCache().headers(store, listed)] == ["gone", "damaged", "foreign"]
    assert headers(store)[0].condition == "damaged"


def test_a_damaged_cache_is_ignored_and_written_again(store, tmp_path):
    cache = RecordCache(tmp_path)
    put_checkpoint(store, HASH, 1, {"loss": 1})
    headers(store, cache)
    [path] = (tmp_path / "headers").iterdir()
    sound = path.read_bytes()
    for damaged in (b"", sound[:-5], sound.replace(b'"loss":1', b'"loss":0'), b"[]", b"\xff\n{}"):
        path.write_bytes(damaged)
        assert headers(store, cache)[0].metadata == {"loss": 1}
        assert path.read_bytes() == sound


def test_an_entry_of_another_version_of_this_library_is_read_again(store, tmp_path):
    cache = RecordCache(tmp_path)
    key = put_checkpoint(store, HASH, 1, {"loss": 1})
    headers(store, cache)
    [path] = (tmp_path / "headers").iterdir()
    entry = read_cache(path)[key]
    write_cache(path, {key: {**entry, "a field of tomorrow": 1}})
    assert headers(store, cache)[0].metadata == {"loss": 1}
    write_cache(path, {key: 5})
    assert headers(store, cache)[0].metadata == {"loss": 1}


def test_without_a_place_to_write_everything_works(store, tmp_path):
    put_checkpoint(store, HASH, 1, {"loss": 1})
    (tmp_path / "file").write_bytes(b"")
    assert headers(store, RecordCache(tmp_path / "file"))[0].metadata == {"loss": 1}


def test_metadata_that_is_too_large_is_remembered_by_its_numbers(store):
    put_checkpoint(store, HASH, 1, {"loss": 1, "notes": ["x" * 900] * 100, "eval": {"f1": 0.5, "by": "me"}, "e": {}})
    assert headers(store)[0].metadata == {"loss": 1, "eval": {"f1": 0.5}}
    put_checkpoint(store, HASH, 1, {f"loss of sample {number}": number for number in range(10_000)})
    assert headers(store)[0].metadata == {}


def test_two_servers_with_a_bucket_of_one_name_are_two_places(tmp_path):
    class Elsewhere(CountingStore):
        @property
        def place(self) -> str:
            return "elsewhere"

    first = CountingStore(fresh_memory()._name)
    second = Elsewhere(first._name)
    put_checkpoint(first, HASH, 1)
    headers(first)
    headers(second)
    assert second.requests == ["get_ranges"]


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("ckptstore.cachefile.MAX_FOLDER_BYTES", 5_000)
    for number in range(10):
        path = tmp_path / f"{number}.json"
        write_cache(path, {"x": "y" * 1_000})
        os.utime(path, (number, number))
    held = sorted(path.name for path in tmp_path.iterdir())
    assert held == ["6.json", "7.json", "8.json", "9.json"]


def test_many_processes_may_use_one_cache(tmp_path):
    program = f"""
from pathlib import Path
from ckptstore.cachefile import read_cache, write_cache
path = Path({str(tmp_path)!r}) / "one.json"
for number in range(200):
    held = read_cache(path)
    assert not held or held["a"] == held["b"] * 1000, held
    write_cache(path, {{"a": str(number % 10) * 1000, "b": str(number % 10)}})
"""
    running = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(one.communicate()[1], one.returncode) for one in running] == [(b"", 0)] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_where_the_cache_lies(monkeypatch):
    monkeypatch.setenv("CKPTSTORE_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("CKPTSTORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/ckptstore")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/c")
    assert cache_folder() == Path("/c/.cache/ckptstore")
