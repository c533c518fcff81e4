"""How many HTTP requests each operation makes, counted where they arrive."""

from __future__ import annotations

import pytest
import torch

from ckptstore import CheckpointManagerV2, compress, keys
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


@pytest.fixture
def lay(s3_server, s3_bucket):
    """Lays objects into the store by their keys, past every client."""

    def lay(keys):
        s3_server.put_objects(s3_bucket, {f"some/prefix/{key}": b"x" for key in keys})

    return lay


def test_loading_the_latest_of_ten_thousand_is_one_listing_and_one_read(manager, lay, http_log):
    manager.save_model_checkpoint(Job().model, step=10_001)
    lay(keys.checkpoint_key(manager.exp_hash, step) for step in range(2, 10_001))
    http_log.clear()
    assert manager.load_latest_checkpoint()["step"] == 10_001
    pages = [request for request in http_log.requests if "list-type=2" in request.query]
    assert len(pages) == 11  # of a thousand keys: the architecture, as a file and as text, is there too
    assert http_log.count() == {"GET": len(pages) + 1}


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


def test_listing_ten_thousand_experiments_takes_the_pages_of_one_level(manager, lay, http_log):
    hashes = [f"{number:016x}" for number in range(9_999)]
    lay(keys.checkpoint_key(exp_hash, step) for exp_hash in hashes for step in (1, 2))
    http_log.clear()
    assert len(manager.list_experiment_hashes()) == 10_000
    assert http_log.count() == {"GET": 10}
    assert all("delimiter=/" in request.parameters for request in http_log.requests)


@pytest.fixture(scope="module")
def many_tensors():
    """A model of 5,000 small tensors, and its optimizer, which has three for each."""
    model = torch.nn.ParameterDict(
        {f"layers_{number}_attention_projection": torch.zeros(2) for number in range(5000)}
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("with_optimizer", [False, True], ids=["5,000 tensors", "20,000 tensors"])
def test_opening_a_checkpoint_is_a_stat_and_one_read_however_many_tensors_there_are(
    s3_store, http_log, many_tensors, with_optimizer
):
    model, optimizer = many_tensors
    manager = CheckpointManagerV2(s3_store)
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1, optimizer=optimizer if with_optimizer else None)
    http_log.clear()
    assert len(manager.open_checkpoint(1)) == 5000
    assert http_log.count() == {"HEAD": 1, "GET": 1}


def test_opening_a_compressed_checkpoint_is_one_read_after_its_form_is_known(s3_store, http_log, many_tensors):
    model, _ = many_tensors
    manager = CheckpointManagerV2(s3_store)
    manager.update_experiment_hash(model)
    for step in (1, 2):
        manager.save_model_checkpoint(model, step=step)
    compress(s3_store)
    http_log.clear()
    assert len(manager.open_checkpoint(1)) == 5000
    assert http_log.count()["GET"] == 1


def test_opening_a_manager_makes_no_request(s3_url, s3_options, http_log):
    with CheckpointManagerV2(s3_url, storage_options=s3_options):
        assert http_log.count() == {}
