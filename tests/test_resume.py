"""Going on where a run stopped."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys, ledgers
from ckptstore.errors import IncompatibleCheckpoint, LedgerError, UnknownExperiment
from tests.models import Job, Net, same


@pytest.fixture
def said(monkeypatch, capsys):
    """Run an act as in a program that has not set up logging (pytest has), and return what it wrote to stderr."""

    def run(act):
        monkeypatch.setattr(logging.getLogger("ckptstore"), "propagate", False)
        act()
        return capsys.readouterr().err

    return run


def _open(store, config=None, model=None, **options):
    manager = CheckpointManagerV2(store, **options)
    manager.update_experiment_hash(model or Net(), config or {"lr": 0.1}, ["a"])
    return manager


def _save(manager, job, step):
    manager.save_model_checkpoint(job.model, step=step, optimizer=job.optimizer, scheduler=job.scheduler)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(any_store):
    whole = Job().train(10)
    manager, job = _open(any_store), Job()
    _save(manager, job.train(6), 6)
    job.train(2)
    random.random()
    resumed = Job(seed=7)
    checkpoint = _open(any_store).resume(resumed.model, resumed.optimizer, scheduler=resumed.scheduler)
    assert checkpoint["step"] == 6
    assert same(resumed.train(4).state(), whole.state())


def test_every_random_generator_goes_on_where_it_was(any_store):
    manager = _open(any_store)
    manager.save_model_checkpoint(Job().model, step=1)
    drawn = (torch.rand(3).tolist(), random.random(), np.random.random())
    _open(any_store).resume(Net())
    assert (torch.rand(3).tolist(), random.random(), np.random.random()) == drawn


def test_a_resume_says_in_one_line_what_it_did(any_store, said):
    manager = _open(any_store)
    manager.save_model_checkpoint(Job().model, step=12)
    line = said(lambda: manager.resume(Net()))
    assert (
        line == f"ckptstore: resumed from step 12 of experiment {manager.exp_hash} in {any_store.url}: "
        "restored model, RNG\n"
    )


def test_with_logging_set_up_it_is_logged_instead(any_store, caplog):
    manager = _open(any_store)
    manager.save_model_checkpoint(Job().model, step=12)
    with caplog.at_level("INFO", logger="ckptstore"):
        manager.resume(Net())
    assert "resumed from step 12" in caplog.text


def test_what_is_saved_after_a_resume_says_where_it_came_from(any_store):
    first = _open(any_store)
    first.save_model_checkpoint(Job().model, step=1)
    second = _open(any_store)
    second.resume(Net())
    second.save_model_checkpoint(Job().model, step=2)
    state = second.load_checkpoint(step=2)
    assert state["run_id"] == second.run_id != first.run_id
    assert state["resumed_from"] == {"exp_hash": first.exp_hash, "step": 1, "run_id": first.run_id}


def test_nothing_to_resume_names_the_nearest_experiment_and_what_differs(any_store, said):
    far = _open(any_store, model=Net(width=9), config={"lr": 5})
    near = _open(any_store, config={"lr": 0.2})
    near.save_model_checkpoint(Net(), step=1)
    assert far.exp_hash != near.exp_hash
    manager = _open(any_store, config={"lr": 0.1})
    line = said(lambda: manager.resume(Net()))
    assert f"nearest is {near.exp_hash}, which differs in: config" in line
    assert "resume(from_hash=...)" in line


def test_a_changed_layer_is_named(any_store, said):
    _open(any_store, model=Net(width=9))
    manager = _open(any_store)
    assert "differs in: model (in conv, norm, head)" in said(lambda: manager.resume(Net()))


def test_in_an_empty_store_it_starts_from_scratch(any_store, said):
    manager = _open(any_store)
    assert manager.resume(Net()) is None
    assert "there is no other experiment; starting from scratch" in said(lambda: manager.resume(Net()))


def test_a_torn_newest_checkpoint_is_skipped(any_store):
    manager = _open(any_store)
    job = Job()
    _save(manager, job.train(1), 1)
    older = {name: value.clone() for name, value in job.model.state_dict().items()}
    _save(manager, job.train(1), 2)
    key = keys.checkpoint_key(manager.exp_hash, 2)
    any_store.put(key, any_store.get(key)[:-100])
    resumed = Job(3)
    with pytest.warns(CkptStoreWarning, match=r"checkpoint skipped: .*_step_000002.pt"):
        assert manager.resume(resumed.model, resumed.optimizer)["step"] == 1
    assert same(dict(resumed.model.state_dict()), older)


def test_after_a_rollback_the_newest_run_is_followed(any_store):
    first = _open(any_store)
    for step in (500, 1000):
        first.save_model_checkpoint(Job(step).model, step=step)
    second = _open(any_store)
    second.load_checkpoint(Net(), step=500)
    second.save_model_checkpoint(Job(600).model, step=600)
    with pytest.warns(CkptStoreWarning, match=r"resuming from step 600, passing over steps \[1000\]"):
        assert _open(any_store).resume(Net())["step"] == 600
    assert _open(any_store).load_latest_checkpoint()["step"] == 1000


def test_the_newest_run_is_found_where_a_copy_has_lost_the_order_of_times(any_store):
    first = _open(any_store)
    for step in (1, 2, 3):
        first.save_model_checkpoint(Job(step).model, step=step)
    for step in (3, 1, 2):  # as a mirror that copies in any order would leave it
        key = keys.checkpoint_key(first.exp_hash, step)
        any_store.put(key, bytes(any_store.get(key)))
    assert _open(any_store).resume(Net())["step"] == 3


def test_another_experiments_checkpoint_is_continued_under_the_current_hash(any_store):
    old = _open(any_store)
    job = Job()
    _save(old, job.train(2), 2)
    manager = _open(any_store, config={"lr": 0.5})
    assert manager.provenance()["parent"] is None
    resumed = Job(4)
    checkpoint = manager.resume(resumed.model, resumed.optimizer, from_hash=old.exp_hash)
    assert checkpoint["step"] == 2
    assert same(dict(resumed.model.state_dict()), dict(job.model.state_dict()))
    assert manager.exp_hash != old.exp_hash
    assert manager.provenance()["parent"] == old.exp_hash
    manager.save_model_checkpoint(resumed.model, step=3)
    assert manager.load_checkpoint(step=3)["resumed_from"]["exp_hash"] == old.exp_hash


def test_a_checkpoint_that_does_not_fit_is_not_continued(any_store):
    old = _open(any_store, model=Net(width=9))
    old.save_model_checkpoint(Net(width=9), step=1)
    manager = _open(any_store)
    with pytest.raises(IncompatibleCheckpoint, match=r"conv.weight: shape"):
        manager.resume(Net(), from_hash=old.exp_hash)
    assert manager.provenance()["parent"] is None


def test_a_nearest_experiment_without_checkpoints_is_not_recommended(any_store, said):
    near = _open(any_store, config={"lr": 0.2})
    manager = _open(any_store)
    line = said(lambda: manager.resume(Net()))
    assert f"nearest is {near.exp_hash}, which differs in: config; it has no checkpoint either" in line


def test_what_the_checkpoint_holds_besides_is_said(any_store, said):
    manager, job = _open(any_store), Job()
    _save(manager, job.train(1), 1)
    line = said(lambda: manager.resume(Net()))
    assert line.endswith("restored model, RNG; it also holds optimizer, scheduler, not given\n")


def test_where_logging_would_not_show_it_the_line_goes_to_stderr(any_store, monkeypatch, capsys):
    manager = _open(any_store)
    manager.save_model_checkpoint(Job().model, step=12)
    monkeypatch.setattr(logging.getLogger("ckptstore"), "disabled", True)
    manager.resume(Net())
    assert "resumed from step 12" in capsys.readouterr().err


def test_resuming_nothing_and_from_nowhere_are_errors(any_store):
    ledgers.clear()
    manager = _open(any_store)
    with pytest.raises(LedgerError, match="which model is to go on"):
        manager.resume()
    with pytest.raises(UnknownExperiment, match="nothing lies under 0000000000000000"):
        manager.resume(Net(), from_hash="0" * 16)


def test_a_parent_is_recorded_even_where_the_record_was_lost(any_store):
    old = _open(any_store)
    old.save_model_checkpoint(Net(), step=1)
    manager = _open(any_store, config={"lr": 0.5})
    any_store.delete([keys.provenance_key(manager.exp_hash)])
    manager.resume(Net(), from_hash=old.exp_hash)
    assert manager.provenance()["parent"] == old.exp_hash


def test_a_family_tree_has_no_cycle(any_store):
    manager = _open(any_store)
    parent = manager.exp_hash
    manager.save_model_checkpoint(Net(), step=1)
    child, _ = manager.update_experiment_hash(config={"lr": 0.5})
    manager.save_model_checkpoint(Net(), step=1)
    manager.update_experiment_hash(config={"lr": 0.1}, force=True)
    manager.resume(Net(), from_hash=child)
    assert manager.provenance(parent)["parent"] is None
    assert manager.provenance(child)["parent"] == parent


def test_looking_at_another_experiment_does_not_rewrite_history(any_store):
    other = _open(any_store, config={"lr": 0.5})
    other.save_model_checkpoint(Net(), step=7)
    manager = _open(any_store)
    manager.load_latest_checkpoint(exp_hash=other.exp_hash)
    manager.save_model_checkpoint(Net(), step=1)
    assert manager.load_checkpoint(step=1)["resumed_from"] is None


def test_another_network_begins_from_scratch(any_store):
    manager = _open(any_store)
    manager.save_model_checkpoint(Net(), step=1)
    manager.resume(Net())
    manager.update_experiment_hash(Net(width=9))
    manager.save_model_checkpoint(Net(width=9), step=2)
    assert manager.load_checkpoint(step=2)["resumed_from"] is None
