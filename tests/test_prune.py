"""Prune: what goes, what stays whatever a policy says, and that a crash or a refusal loses nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ckptstore import (
    Best,
    CheckpointManagerV2,
    EverySteps,
    Latest,
    Pinned,
    WithinAge,
    collect_garbage,
    keys,
    prune,
    prune_experiments,
)
from ckptstore.compression import compress
from ckptstore.errors import AccessDenied, StoreUnavailable, UnknownExperiment
from ckptstore.experiment import Experiment
from ckptstore.retention.planning import Guard
from ckptstore.retention.pruning import prune_checkpoints
from ckptstore.testing import Fail, FaultyStore, Killed
from tests.archives import CountingStore
from tests.experiments import copied, flip, folder, fresh_memory, make_old, new_experiment, put_checkpoint
from tests.models import Net

HASH = "ab" * 8
NO_GUARD = Guard(min_age=timedelta(0), newest=0)


def steps(store, exp_hash=HASH):
    return [record.step for record in Experiment(store, exp_hash).checkpoints()]


def old_checkpoints(store, count=10, exp_hash=HASH, age=timedelta(days=3)):
    for step in range(1, count + 1):
        put_checkpoint(store, exp_hash, step, {"loss": abs(step - 4) / 10})
    make_old(store, age, keys.model_prefix(exp_hash))


def why(report, step):
    [verdict] = [verdict for verdict in report.verdicts if verdict.step == step]
    return verdict.why


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_no_policy_keeps_goes_and_the_reasons_are_told(tmp_path, place):
    store = folder(tmp_path) if place == "disk" else fresh_memory()
    old_checkpoints(store, 12)
    keep = Latest(2) | Best(1, "loss", "min") | EverySteps(6) | Pinned([2])
    planned = prune(store, keep, dry_run=True)
    assert steps(store) == list(range(1, 13))
    done = prune(store, keep)
    assert steps(store) == [2, 4, 6, 10, 11, 12]
    assert [verdict.step for verdict in planned.gone] == [verdict.step for verdict in done.gone] == [1, 3, 5, 7, 8, 9]
    assert why(done, 2) == "pinned"
    assert why(done, 4) == "lowest loss: 0"
    assert why(done, 10) == "one of the newest 3"
    assert why(done, 12) == "one of the latest 2; a multiple of 6; one of the newest 3; the newest sound one"
    assert why(done, 1) == "no policy keeps it"
    assert done.freed_bytes == sum(verdict.size_bytes for verdict in done.gone) > 0
    assert json.loads(json.dumps(done.as_dict()))["verdicts"][0]["step"] == 1


def test_the_same_goes_in_every_kind_of_store(any_store):
    for step in range(1, 8):
        put_checkpoint(any_store, HASH, step, {"loss": abs(step - 2)})
    prune_checkpoints(any_store, HASH, Latest(2) | Best(1, "loss", "min"), guard=NO_GUARD)
    assert steps(any_store) == [2, 6, 7]


def test_nothing_younger_than_a_day_and_never_the_newest_three_go():
    store = fresh_memory()
    old_checkpoints(store, 3)
    for step in (4, 5):
        put_checkpoint(store, HASH, step)
    report = prune(store, Pinned([99]))
    assert steps(store) == [3, 4, 5]
    assert "written within 24 h" in why(report, 4)
    make_old(store, timedelta(days=3))
    assert prune(store, Pinned([99])).gone == ()


def test_of_a_run_that_went_back_the_newest_are_its_own():
    store = fresh_memory()
    now = datetime.now(UTC)
    for hours, step in enumerate([700, 800, 900, 1000, 600, 650]):
        put_checkpoint(store, HASH, step, saved_at=now - timedelta(hours=50 - hours))
    target = copied(store)  # a copy, whose times in the store tell nothing
    for place in (store, target):
        prune_checkpoints(place, HASH, Latest(3), guard=NO_GUARD)
        assert steps(place) == [600, 650, 1000]


def test_the_newest_sound_one_stays_and_damaged_ones_do_not_count():
    store = fresh_memory()
    old_checkpoints(store, 6)
    flip(store, keys.checkpoint_key(HASH, 6), -10)
    flip(store, keys.checkpoint_key(HASH, 5), -10)
    verdicts = prune_checkpoints(store, HASH, Latest(1), guard=NO_GUARD)
    assert steps(store) == [4, 6]
    assert [verdict.why for verdict in verdicts if verdict.stays] == ["the newest sound one", "the latest"]


def test_where_none_is_known_to_be_sound_nothing_goes():
    store = fresh_memory()
    for step in range(1, 5):
        store.put(keys.checkpoint_key(HASH, step), b"nothing")
    assert all(verdict.stays for verdict in prune_checkpoints(store, HASH, Latest(1), guard=NO_GUARD))
    assert steps(store) == [1, 2, 3, 4]


def test_soundness_is_not_taken_from_what_was_remembered():
    store = fresh_memory()
    for step in range(1, 5):
        put_checkpoint(store, HASH, step, {"loss": step})
    prune_checkpoints(store, HASH, Best(4, "loss", "min"), guard=NO_GUARD)
    held = MemoryFileSystem.store[f"/{store.url.removeprefix('memory://')}/{keys.checkpoint_key(HASH, 4)}"]
    held.seek(-10, 2)
    held.write(b"?")  # it rots in place: the store says nothing
    prune_checkpoints(store, HASH, Pinned([99]), guard=NO_GUARD)
    assert steps(store) == [3]


def test_what_this_process_resumed_from_stays(tmp_path):
    store, net = folder(tmp_path), Net(4)
    with CheckpointManagerV2(store) as manager:
        exp_hash, _ = manager.update_experiment_hash(net, {})
        for step in range(1, 9):
            manager.save_model_checkpoint(net, step=step)
    with CheckpointManagerV2(store) as manager:
        manager.update_experiment_hash(net, {})
        manager.load_checkpoint(net, step=2)
    make_old(store, timedelta(days=2))
    report = prune(store, Latest(1))
    assert steps(store, exp_hash) == [2, 6, 7, 8]
    assert why(report, 2) == "this process resumed from it"


def test_only_the_named_experiments_are_pruned():
    store = fresh_memory()
    other = "cd" * 8
    for exp_hash in (HASH, other):
        old_checkpoints(store, 6, exp_hash)
    prune(store, Latest(1), experiments=[HASH])
    assert (steps(store), steps(store, other)) == ([4, 5, 6], [1, 2, 3, 4, 5, 6])
    with pytest.raises(UnknownExperiment, match="nothing was done"):
        prune(store, Latest(1), experiments=[other, "f" * 16])
    assert steps(store, other) == [1, 2, 3, 4, 5, 6]


def test_nothing_but_checkpoints_goes():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1, 2, 3, 4, 5))
    store.put(f"checkpoints/{exp_hash}/model/best.pt", b"mine")
    make_old(store, timedelta(days=2))
    before = {info.key for info in store.list()}
    prune(store, Latest(1))
    gone = before - {info.key for info in store.list()}
    assert gone == {keys.checkpoint_key(exp_hash, step) for step in (1, 2)}


def test_both_forms_of_a_compressed_checkpoint_go_together():
    store = fresh_memory()
    old_checkpoints(store, 6)
    plain = keys.checkpoint_key(HASH, 1)
    held = bytes(store.get(plain))
    compress(store, steps=[1, 2])
    store.put(plain, held)
    prune_checkpoints(store, HASH, Latest(2), guard=NO_GUARD)
    assert [info.key for info in store.list(keys.model_prefix(HASH))] == [
        keys.checkpoint_key(HASH, 5), keys.checkpoint_key(HASH, 6)
    ]  # fmt: skip


def test_a_metric_that_no_checkpoint_has_is_an_error_before_anything_goes():
    store = fresh_memory()
    old_checkpoints(store)
    with pytest.raises(ValueError, match=r"'lsos'.*in their metadata is: loss"):
        prune(store, Best(1, "lsos", "min"))
    assert len(steps(store)) == 10
    with pytest.raises(TypeError, match="no policy"):
        prune(store, 3)  # type: ignore[arg-type]


def test_what_a_metric_cannot_be_read_from_stays():
    store = fresh_memory()
    old_checkpoints(store, 6)
    store.put(keys.checkpoint_key(HASH, 1), b"PK\3\4 of an older tool")
    make_old(store, timedelta(days=3), keys.model_prefix(HASH))
    report = prune(store, Best(1, "loss", "min"))
    assert steps(store) == [1, 4, 5, 6]
    assert "another tool" in why(report, 1)


def test_who_may_not_write_learns_what_the_write_is_for():
    inner = fresh_memory()
    old_checkpoints(inner, 6)
    with pytest.raises(AccessDenied) as raised:
        prune(FaultyStore(inner, [Fail("put", AccessDenied("not you"))]), Latest(1))
    assert "the time by the store's clock" in raised.value.__notes__[0]
    assert len(steps(inner)) == 6


def test_a_place_without_experiments_is_not_written_to(tmp_path):
    assert prune(tmp_path / "nothing", Latest(1)).verdicts == ()
    assert prune_experiments(tmp_path / "nothing", keep_latest=1).verdicts == ()
    assert collect_garbage(tmp_path / "nothing").items == ()
    assert not (tmp_path / "nothing").exists()


def test_within_age_goes_by_the_time_in_the_checkpoint_which_a_copy_leaves_alone():
    store, now = fresh_memory(), datetime.now(UTC)
    for step in range(1, 9):
        put_checkpoint(store, HASH, step, saved_at=now - timedelta(days=20 - 2 * step))
    make_old(store, timedelta(days=2))  # as if all had been copied here two days ago
    verdicts = prune(store, WithinAge(timedelta(days=9)), dry_run=True).verdicts
    assert [verdict.step for verdict in verdicts if not verdict.stays] == [1, 2, 3, 4, 5]
    assert verdicts[0].saved_at == now - timedelta(days=18)
    assert "younger than 9 d" in verdicts[-1].why


def test_ages_are_told_by_the_stores_clock(monkeypatch):
    store = fresh_memory()
    for step in range(1, 7):
        put_checkpoint(store, HASH, step)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=400)

    monkeypatch.setattr("ckptstore.retention.pruning.datetime", Ahead)
    assert prune(store, WithinAge(timedelta(hours=1))).gone == ()
    assert steps(store) == [1, 2, 3, 4, 5, 6]
    assert [info.key for info in store.list() if "clock" in info.key] == []


def test_the_second_prune_of_a_thousand_by_a_metric_makes_no_reads():
    store = CountingStore(fresh_memory()._name)
    old_checkpoints(store, 1000)
    keep = Best(990, "loss", "max") | EverySteps(1)
    prune(store, keep)
    assert len(store.requests) >= 1000
    store.requests.clear()
    prune(store, keep, dry_run=True)
    assert prune(store, keep).gone == ()
    assert [request for request in store.requests if request != "stat"] == []  # one stat asks for the time


def test_a_refusal_half_way_says_what_went_and_the_next_prune_goes_on():
    inner = fresh_memory()
    old_checkpoints(inner, 250)
    refusing = FaultyStore(inner, [Fail("delete", AccessDenied("not you"), nth=150)])
    with pytest.raises(AccessDenied) as raised:
        prune_checkpoints(refusing, HASH, Latest(5), guard=NO_GUARD)
    assert raised.value.__notes__ == [f"100 of 245 checkpoints of {HASH} went before; the rest is whole"]
    assert steps(inner)[-5:] == [246, 247, 248, 249, 250]
    prune_checkpoints(inner, HASH, Latest(5), guard=NO_GUARD)
    assert steps(inner) == [246, 247, 248, 249, 250]


@pytest.mark.parametrize("nth", [1, 3, 5])
def test_a_kill_half_way_leaves_every_checkpoint_whole(nth):
    inner = fresh_memory()
    old_checkpoints(inner, 9)
    with pytest.raises(Killed):
        prune_checkpoints(FaultyStore(inner, [Fail("delete", Killed(), nth=nth)]), HASH, Latest(2), guard=NO_GUARD)
    assert steps(inner) == list(range(nth, 10))
    prune_checkpoints(inner, HASH, Latest(2), guard=NO_GUARD)
    assert steps(inner) == [8, 9]


def test_a_store_that_does_not_answer_a_read_is_no_missing_metric():
    inner = fresh_memory()
    old_checkpoints(inner)
    with pytest.raises(StoreUnavailable):
        prune(FaultyStore(inner, [Fail("get_ranges", StoreUnavailable("gone"), nth=4)]), Best(1, "loss", "min"))
    assert len(steps(inner)) == 10


# -- by the manager, after each save --------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_a_manager_keeps_what_its_policy_says(any_store, blocking):
    with CheckpointManagerV2(any_store, keep=Latest(2) | Best(1, "loss", "min")) as manager:
        exp_hash, _ = manager.update_experiment_hash(Net(4), {})
        for step in range(1, 7):
            loss = {"loss": abs(step - 2)}
            manager.save_model_checkpoint(Net(4), step=step, metadata=loss, blocking=blocking)
    assert steps(any_store, exp_hash) == [2, 5, 6]


def test_nothing_goes_before_the_new_one_is_durable():
    store = FaultyStore(fresh_memory())
    with CheckpointManagerV2(store, keep=Latest(1)) as manager:
        exp_hash, _ = manager.update_experiment_hash(Net(4), {})
        for step in (1, 2):
            manager.save_model_checkpoint(Net(4), step=step)
    calls = [call for call in store.calls if "_step_" in call.key and call.operation in ("put", "delete")]
    assert [(call.operation, call.key) for call in calls] == [
        ("put", keys.checkpoint_key(exp_hash, 1)),
        ("put", keys.checkpoint_key(exp_hash, 2)),
        ("delete", keys.checkpoint_key(exp_hash, 1)),
    ]


def test_a_save_that_fails_deletes_nothing():
    inner = fresh_memory()
    exp_hash = new_experiment(inner, steps=())
    failing = Fail("put", StoreUnavailable("gone"), key=keys.checkpoint_key(exp_hash, 3))
    manager = CheckpointManagerV2(FaultyStore(inner, [failing]), keep=Latest(1))
    manager.update_experiment_hash(Net(4), {"config": 1})
    manager.save_model_checkpoint(Net(4), step=2)
    with pytest.raises(StoreUnavailable):
        manager.save_model_checkpoint(Net(4), step=3)
    assert steps(inner, exp_hash) == [2]


def test_a_manager_leaves_what_other_processes_saved_within_a_day():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1, 2, 3, 4, 5, 6))
    make_old(store, timedelta(days=2))
    put_checkpoint(store, exp_hash, 7)
    with CheckpointManagerV2(store, keep=Latest(1)) as manager:
        manager.update_experiment_hash(Net(4), {"config": 1})
        for step in (8, 9):
            manager.save_model_checkpoint(Net(4), step=step)
    assert steps(store, exp_hash) == [7, 9]


def test_a_failing_deletion_is_logged_and_the_save_stands(caplog):
    inner = fresh_memory()
    with CheckpointManagerV2(
        FaultyStore(inner, [Fail("delete", AccessDenied("not you"))]), keep=Latest(1)
    ) as manager:
        exp_hash, _ = manager.update_experiment_hash(Net(4), {})
        for step in (1, 2):
            manager.save_model_checkpoint(Net(4), step=step)
        assert steps(inner, exp_hash) == [1, 2]
        assert "not deleted: not you" in caplog.text
        manager.save_model_checkpoint(Net(4), step=3)
    assert steps(inner, exp_hash) == [3]


def test_a_manager_deletes_nothing_by_a_metric_that_no_checkpoint_has_and_says_so_once(caplog):
    store = fresh_memory()
    with CheckpointManagerV2(store, keep=Latest(1) | Best(1, "val_loss", "min")) as manager:
        exp_hash, _ = manager.update_experiment_hash(Net(4), {})
        manager.save_model_checkpoint(Net(4), step=1, metadata={"loss": 0.1})
        assert caplog.text == ""
        for step in (2, 3, 4):
            manager.save_model_checkpoint(Net(4), step=step, metadata={"loss": 0.5})
        assert steps(store, exp_hash) == [1, 2, 3, 4]
        assert caplog.text.count("asks for the metric 'val_loss', which no checkpoint of") == 1
        manager.save_model_checkpoint(Net(4), step=5, metadata={"val_loss": 0.4})
    assert steps(store, exp_hash) == [5]


def test_a_manager_takes_only_a_policy():
    with pytest.raises(TypeError, match="no policy"):
        CheckpointManagerV2(fresh_memory(), keep=3)  # type: ignore[arg-type]
