"""How many HTTP requests each operation makes, counted where they arrive."""

from __future__ import annotations

import pytest

from ckptstore import CheckpointManagerV2, keys
from tests.models import Job, Net


@pytest.fixture
def manager(s3_store):
    manager = CheckpointManagerV2(s3_store)
    manager.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    manager.save_model_checkpoint(Job().model, step=1)
    return manager


def test_a_save_is_one_put(manager, http_log):
    http_log.clear()
    manager.save_model_checkpoint(Job().model, step=2)
    assert http_log.count() == {"HEAD": 1, "PUT": 1}  # another model object: is the architecture there?
    model = Job().model
    manager.save_model_checkpoint(model, step=3)
    http_log.clear()
    manager.save_model_checkpoint(model, step=4)
    assert http_log.count() == {"PUT": 1}


def test_loading_the_latest_of_a_thousand_is_one_listing_and_one_read(manager, s3_store, http_log):
    data = bytes(s3_store.get(keys.checkpoint_key(manager.exp_hash, 1)))
    key = keys.checkpoint_key(manager.exp_hash, 1)
    for step in range(2, 900):
        s3_store.put(keys.checkpoint_key(manager.exp_hash, step), b"x")
    manager.save_model_checkpoint(Net(), step=999)
    http_log.clear()
    assert manager.load_latest_checkpoint()["step"] == 999
    assert http_log.count() == {"GET": 2}
    assert s3_store.stat(key).size_bytes == len(data)


def test_loading_one_step_is_a_stat_and_one_read(manager, http_log):
    http_log.clear()
    manager.load_checkpoint(step=1)
    assert http_log.count() == {"HEAD": 1, "GET": 1}


def test_resuming_is_one_listing_an_index_and_the_tensors(manager, http_log):
    http_log.clear()
    manager.resume(Net())
    assert http_log.count() == {"GET": 3}


def test_a_new_experiment_is_one_listing_and_two_puts(s3_store, http_log):
    manager = CheckpointManagerV2(s3_store)
    http_log.clear()
    manager.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    assert http_log.count() == {"GET": 1, "PUT": 2}
    http_log.clear()
    manager.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    assert http_log.count() == {"GET": 1}


def test_listing_experiments_reads_one_level(manager, s3_store, http_log):
    for number in range(30):
        for step in range(5):
            s3_store.put(keys.checkpoint_key(f"{number:016x}", step), b"x")
    http_log.clear()
    assert len(manager.list_experiment_hashes()) == 31
    assert http_log.count() == {"GET": 1}


def test_opening_a_manager_makes_no_request(s3_url, s3_options, http_log):
    with CheckpointManagerV2(s3_url, storage_options=s3_options):
        assert http_log.count() == {}
