"""What was sound stays, in what order things may happen and whatever clocks and other processes do meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ckptstore import (
    Best,
    Latest,
    collect_garbage,
    compress,
    decompress,
    keys,
    mirror,
    prune,
    prune_experiments,
    verify,
)
from ckptstore.clock import PROBE_PREFIX
from ckptstore.errors import MirrorIncomplete
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.retention.planning import Guard
from ckptstore.retention.pruning import prune_checkpoints
from ckptstore.testing.faulty import FaultyStore
from tests.experiments import copied, flip, folder, fresh_memory, make_old, new_experiment, put_checkpoint

HASH = "ab" * 8
MONTH = timedelta(days=30)


class Interrupted(FaultyStore):
    """Lets something happen right before the first deletion, leaving aside that of what asks for the time."""

    def __init__(self, inside, happens):
        super().__init__(inside)
        self.happens = happens

    def delete(self, keys_):
        doomed = list(keys_)
        if self.happens is not None and not doomed[0].startswith(PROBE_PREFIX):
            happens, self.happens = self.happens, None
            happens()
        super().delete(doomed)


def steps(store, exp_hash=HASH):
    return [record.step for record in Experiment(store, exp_hash).checkpoints()]


def both_forms(store, config):
    """Leave a `.pt` beside its `.pt.zst`, as a kill does; return the experiment."""
    exp_hash = new_experiment(store, config=config)
    key = keys.checkpoint_key(exp_hash, 1)
    data = bytes(store.get(key))
    compress(store, experiments=[exp_hash])
    packed = bytes(store.get(key + keys.COMPRESSED))
    store.put(key, data)
    store.put(key + keys.COMPRESSED, packed)
    return exp_hash


def test_garbage_is_not_collected_after_the_other_form_went():
    inside = fresh_memory()
    first, second = sorted(both_forms(inside, config) for config in (1, 2))
    store = Interrupted(inside, lambda: decompress(inside, experiments=[second]))
    collect_garbage(store, older_than=timedelta(0))
    assert steps(inside, first) == steps(inside, second) == [1, 2]
    assert verify(inside, deep=True).ok


def test_an_experiment_that_is_written_to_while_others_are_deleted_stays():
    inside = fresh_memory()
    hashes = sorted(new_experiment(inside, config=number) for number in (1, 2))
    make_old(inside, MONTH)
    store = Interrupted(inside, lambda: put_checkpoint(inside, hashes[1], 9))
    report = prune_experiments(store, keep_latest=0)
    assert list_hashes(inside) == [hashes[1]]
    assert steps(inside, hashes[1]) == [1, 2, 9]
    assert [(one.exp_hash, one.why) for one in report.verdicts if one.stays] == [(hashes[1], "written to meanwhile")]


@pytest.mark.parametrize("many", [{"h": {str(step): step / 7 for step in range(3000)}}, {"note": ["x" * 900] * 50}])
def test_the_best_one_stays_however_long_its_metadata_is(many):
    store = fresh_memory()
    put_checkpoint(store, HASH, 1, {"loss": 0.1, **many})
    for step in range(2, 8):
        put_checkpoint(store, HASH, step, {"loss": 0.5})
    make_old(store, MONTH)
    prune(store, Best(1, "loss", "min"))
    assert steps(store) == [1, 5, 6, 7]


def test_what_has_too_many_numbers_to_find_the_metric_among_stays():
    store = fresh_memory()
    put_checkpoint(store, HASH, 1, {f"metric_{number}": number / 7 for number in range(3000)})
    for step in range(2, 8):
        put_checkpoint(store, HASH, step, {"metric_1": 9.0})
    make_old(store, MONTH)
    report = prune(store, Best(1, "metric_1", "min"))
    assert report.verdicts[0].why == "its metadata is too long to look for the metric in"
    assert steps(store) == [1, 5, 6, 7]


def test_an_experiment_without_the_metric_stays_whole():
    store = fresh_memory()
    for step in range(1, 8):
        put_checkpoint(store, HASH, step, {"loss": 0.5})
        put_checkpoint(store, HASH[::-1], step, {"accuracy": step})
    make_old(store, MONTH)
    report = prune(store, Best(1, "loss", "min"))
    assert len(steps(store)) == 3
    assert len(steps(store, HASH[::-1])) == 7
    assert "has the metric 'loss'" in report.kept[-1].why or "has the metric 'loss'" in report.kept[0].why


def test_a_file_from_a_clock_that_is_ahead_does_not_make_others_old(tmp_path):
    import os

    store = folder(tmp_path)
    for step in range(1, 8):
        put_checkpoint(store, HASH, step)
    ahead = (datetime.now(UTC) + MONTH).timestamp()
    os.utime(str(store.path(keys.checkpoint_key(HASH, 3))), (ahead, ahead))
    own = store.stat(put_checkpoint(store, HASH, 8))
    prune_checkpoints(store, HASH, Latest(1), guard=Guard(own={own.key: own.version}))
    assert steps(store) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_rotten_compressed_checkpoint_does_not_drive_out_the_sound_original_of_a_mirror():
    source = fresh_memory()
    exp_hash = new_experiment(source)
    target = copied(source)
    compress(source)
    flip(source, keys.compressed_checkpoint_key(exp_hash, 1), 2000)
    with pytest.raises(MirrorIncomplete, match="not deleted"):
        mirror(source, target, delete=True)
    assert keys.checkpoint_key(exp_hash, 1) in {info.key for info in target.list()}


def test_another_checkpoint_of_the_same_step_in_the_other_form_is_not_deleted_unless_asked():
    source = fresh_memory()
    exp_hash = new_experiment(source)
    target = copied(source)
    compress(source)
    key = put_checkpoint(target, exp_hash, 1, value=3.0)
    with pytest.raises(MirrorIncomplete, match="does not hold the checkpoint"):
        mirror(source, target, delete=True)
    assert key in {info.key for info in target.list()}
    mirror(source, target, delete=True, on_conflict="source")
    assert key not in {info.key for info in target.list()}


def test_a_conflict_is_not_won_by_what_is_damaged():
    source = fresh_memory()
    exp_hash = new_experiment(source)
    target = copied(source)
    key = keys.checkpoint_key(exp_hash, 1)
    source.put(key, bytes(source.get(key))[:-100])
    with pytest.raises(MirrorIncomplete, match="is damaged in"):
        mirror(source, target, on_conflict="source")
    assert verify(target, deep=True).ok
    assert mirror(target, source, on_conflict="source").ok
    assert verify(source, deep=True).ok
