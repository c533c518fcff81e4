"""Diff, why, lineage: what changed is named, nothing is downloaded, and a deep comparison is exact."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from uuid import uuid4

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, archive
from ckptstore.backups import load_uids
from ckptstore.comparing import (
    SampleChange,
    compare_checkpoints,
    compare_experiments,
    lineage,
    overviews,
    why,
)
from ckptstore.comparing.metrics import Best, Metric, best_of, chosen_metric, parsed_metric
from ckptstore.comparing.modules import ModuleChange, printed_modules
from ckptstore.comparing.values import changes_between
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint
from ckptstore.experiment import Experiment
from ckptstore.view import CheckpointView
from ckptstore_backends.memory import MemoryStore
from tests.experiments import flip

_CONFIG = {"optimizer": {"name": "adam", "lr": 0.1}, "layers": [8, 8], "log_level": "info"}


@pytest.fixture
def memory():
    return MemoryStore(f"diff-{uuid4().hex}")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTSTORE_CACHE", str(tmp_path / "cache"))


def _made(store, model=None, config=None, uids=None, **settings):
    """Return an experiment of these components, with its printed architecture where there is a model."""
    manager = CheckpointManagerV2(store, **settings)
    exp_hash, _ = manager.update_experiment_hash(model, config, uids)
    if model is not None:
        manager.save_model_architecture(model)
    return Experiment(store, exp_hash)


def _net(width=4, *tail):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), *tail)


def _view(store, tensors, name="a", **facts):
    key = f"checkpoints/{name}"
    store.put(key, archive.plan({"format": 1, "model_state_dict": tensors, **facts}).buffers())
    return CheckpointView(store, archive.read_index(store, key))


def _samples(old, new):
    change = compare_experiments(old, new).samples
    assert change is not None
    return change


def _distances(old, new):
    """Return the largest and the mean change, how many elements differ, and of how many, of each tensor."""
    found = compare_checkpoints(old, new, deep=True)
    return {change.name: astuple(change.distance) for change in found.tensors if change.distance is not None}


def _verdicts(found):
    return {change.name: change.verdict for change in found.tensors}


def test_the_layers_that_differ_are_named_with_what_they_print(any_store):
    old = _made(any_store, _net(4, nn.Dropout(0.1)), {"a": 1})
    new = _made(any_store, _net(5, nn.Dropout(0.1), nn.Tanh()), {"a": 1})
    found = compare_experiments(old, new)
    assert [(change.path, change.change) for change in found.modules] == [("0", "changed"), ("3", "added")]
    assert found.modules[0].old == "Linear(in_features=3, out_features=4, bias=True)"
    assert found.modules[0].new == "Linear(in_features=3, out_features=5, bias=True)"
    assert found.modules[1].new == "Tanh()"
    assert found.components == ("model",)
    assert found.configs == ()
    assert found.samples is None
    assert found.as_dict()["modules"][1] == {"path": "3", "change": "added", "old": None, "new": "Tanh()"}


def test_config_values_are_compared_by_path_and_type(memory):
    old = _made(memory, config=_CONFIG)
    new = _made(memory, config={"optimizer": {"name": "adam", "lr": 1}, "layers": [8, 9, 9], "epochs": 3,
                                "log_level": "info"})  # fmt: skip
    changes = [
        (change.path, change.change, change.old, change.new) for change in compare_experiments(old, new).configs
    ]
    assert changes == [
        ("optimizer.lr", "changed", 0.1, 1),
        ("layers[1]", "changed", 8, 9),
        ("layers[2]", "added", None, 9),
        ("epochs", "added", None, 3),
    ]


def test_one_and_one_point_zero_differ_and_nan_does_not():
    assert [str(change) for change in changes_between({"a": 1, "b": math.nan}, {"a": 1.0, "b": math.nan})] == [
        "a 1 -> 1.0"
    ]
    assert [change.path for change in changes_between({"a b": {"c.d": 1}}, {})] == ["['a b']"]


def test_ignored_keys_and_other_configs_are_shown_as_outside_the_hash(memory):
    manager = CheckpointManagerV2(memory, ignore=["log_level"])
    old, _ = manager.update_experiment_hash(config=_CONFIG)
    manager.save_config({"beam": 1}, "decoding")
    new, _ = manager.update_experiment_hash(config={**_CONFIG, "layers": [8], "log_level": "debug"})
    found = compare_experiments(Experiment(memory, old), Experiment(memory, new))
    assert [(change.config_name, change.path, change.counts) for change in found.configs] == [
        ("config", "layers[1]", True),
        ("config", "log_level", False),
        ("decoding", "beam", False),
    ]
    assert why(Experiment(memory, old), Experiment(memory, new)) == (
        f"{new} differs from {old} in the config (layers[1] removed (8))."
    )


def test_samples_are_compared_by_count_where_uids_were_not_kept(memory):
    old, new = (_made(memory, uids=range(count)) for count in (1500, 1403))
    assert _samples(old, new).as_dict() == {"old_count": 1500, "new_count": 1403, "added": None, "removed": None}
    assert why(old, new) == f"{new.exp_hash} differs from {old.exp_hash} in the samples (1,500 -> 1,403)."


def test_samples_are_compared_by_uid_where_both_kept_them(any_store):
    old = _made(any_store, uids=["a", "a", "b\\0", "\0", 1, -5, b"\xff", 2**70], record_uids=True)
    new = _made(any_store, uids=["a", "1", "b\\0", b"\xff", 2**70, "new"], record_uids=True)
    assert _samples(old, new).removed == (-5, 1, "\0", "a")
    assert _samples(old, new).added == ("1", "new")
    assert load_uids(old) == {"a": 2, "b\\0": 1, "\0": 1, 1: 1, -5: 1, b"\xff": 1, 2**70: 1}
    assert "8 -> 6, without -5, 1, \0 and 1 more, with 1, new" in why(old, new)


def test_damaged_uids_and_configs_are_named_and_the_rest_is_compared(memory):
    old = _made(memory, _net(4), {"a": 1}, ["x", "y"], record_uids=True)
    new = _made(memory, _net(5), {"a": 2}, ["x"], record_uids=True)
    for key in (f"hp/{new.exp_hash}_config.yaml", f"data/{new.exp_hash}_uids.h5"):
        whole = f"checkpoints/{new.exp_hash}/{key}"
        memory.put(whole, bytes(memory.get(whole))[:-9])
    found = compare_experiments(old, new)
    assert len(found.modules) == 1
    assert found.samples == SampleChange(2, 1)
    assert len(found.problems) == 2
    assert all("checksum" in problem for problem in found.problems)
    with pytest.raises(CorruptCheckpoint):
        load_uids(new)


def test_experiments_of_two_stores_are_compared(tmp_path, memory):
    old = _made(memory, config={"lr": 1})
    with CheckpointManagerV2(tmp_path) as manager:
        new = Experiment(manager.store, manager.update_experiment_hash(config={"lr": 2})[0])
        assert [change.path for change in compare_experiments(old, new).configs] == ["lr"]
        assert compare_experiments(new, new).same


def test_why_is_one_sentence(memory):
    base = _made(memory, _net(4), {"lr": 0.1}, range(3))
    both = _made(memory, _net(5), {"lr": 0.2}, range(3))
    assert why(base, both) == (
        f"{both.exp_hash} differs from {base.exp_hash} in the architecture (0 Linear out_features 4 -> 5) "
        "and in the config (lr 0.1 -> 0.2)."
    )
    bare = _made(memory, config={"lr": 0.1})
    assert why(base, bare).endswith("in the architecture (no longer given) and in the samples (no longer given).")
    assert why(bare, bare) == f"{bare.exp_hash} and {bare.exp_hash} are the same experiment."


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("Conv2d(1, 16, kernel_size=(3, 3))", "Conv2d(1, 32, kernel_size=(3, 5))",
         "Conv2d 16 -> 32, kernel_size (3, 3) -> (3, 5)"),
        ("LayerNorm((8,), eps=1e-05)", "LayerNorm((16,), eps=1e-05)", "LayerNorm (8,) -> (16,)"),
        ("Linear(a=1)", "Conv(a=1)", "Linear(a=1) -> Conv(a=1)"),
        ("Linear(a=1)", "Linear(a=1, b=2)", "Linear(a=1) -> Linear(a=1, b=2)"),
        ("Odd [x", "Odd [y", "Odd [x -> Odd [y"),
        ("Block", "Block", "changed (Block)"),
        (None, None, "changed"),
    ],
)  # fmt: skip
def test_a_module_is_told_by_what_differs_in_it(old, new, text):
    assert str(ModuleChange("head", "changed", old, new)) == f"head {text}"


def test_a_change_of_the_scheme_alone_is_said(memory):
    old = _made(memory, config={"lr": 0.1})
    record = replace(old.provenance(), exp_hash="f" * 16, scheme=9)
    new = Experiment(memory, "f" * 16)
    new.create(record)
    new.write_config({"lr": 0.1})
    assert why(old, new) == f"{'f' * 16} differs from {old.exp_hash} in the hashing scheme (1 -> 9)."


def test_the_state_of_the_optimizer_is_compared_tensor_by_tensor_too(memory):
    state = {"state": {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}}}
    later = {
        "state": {0: {"exp_avg": torch.full((3,), 0.5), "step": torch.tensor(1.0)}, 1: {"step": torch.tensor(2)}}
    }
    old = _view(memory, {"w": torch.ones(2)}, "a", optimizer_state_dict=state)
    new = _view(memory, {"w": torch.ones(2)}, "b", optimizer_state_dict=later)
    for deep in (False, True):
        found = compare_checkpoints(old, new, deep=deep)
        assert [change.verdict for change in found.tensors] == ["same"]
        assert {change.name: change.verdict for change in found.other_tensors} == {
            "optimizer_state_dict.state[0].exp_avg": "changed",
            "optimizer_state_dict.state[0].step": "same",
            "optimizer_state_dict.state[1].step": "added",
        }
    assert found.as_dict()["other_tensors"][0]["distance"]["max_abs"] == 0.5


def test_an_experiment_without_a_record_cannot_be_compared(memory):
    old = _made(memory, config={"lr": 0.1})
    with pytest.raises(CheckpointNotFound, match="it is not in this store"):
        compare_experiments(old, Experiment(memory, "a" * 16))


def test_printed_modules_are_found_in_nested_and_repeated_forms():
    model = nn.ModuleDict({
        "body": nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.ReLU()) for _ in range(3)]),
        "head": nn.Linear(2, 1),
    })  # fmt: skip
    forms = printed_modules(str(model))
    assert set(forms) == {path for path, _ in model.named_modules()}
    assert forms["body.2.0"] == "Linear(in_features=2, out_features=2, bias=True)"
    assert forms["body.1"] == "Sequential"
    assert forms["head"] == "Linear(in_features=2, out_features=1, bias=True)"
    assert printed_modules("") == {}
    assert printed_modules("nonsense\n (((\n  (x): ") == {"": "nonsense"}


@pytest.fixture
def two(memory):
    torch.manual_seed(0)
    kept, changed = torch.randn(5, 4), torch.randn(300)
    old = {"kept": kept, "changed": changed, "shape": torch.zeros(2), "type": torch.ones(3), "gone": torch.zeros(1)}
    moved = changed.clone()
    moved[7] += 0.5
    new = {"kept": kept, "changed": moved, "shape": torch.zeros(3), "type": torch.ones(3).half(),
           "come": torch.zeros(1)}  # fmt: skip
    return old, new


def test_tensors_are_judged_without_reading_one(memory, two):
    old, new = (_view(memory, tensors, name) for tensors, name in zip(two, "ab", strict=True))
    memory.delete(["checkpoints/a", "checkpoints/b"])
    found = compare_checkpoints(old, new)
    assert _verdicts(found) == {
        "kept": "same", "changed": "changed", "shape": "reshaped", "type": "retyped", "gone": "removed",
        "come": "added",
    }  # fmt: skip
    assert not found.same_content
    assert compare_checkpoints(old, old).same_content


def test_a_deep_comparison_gives_the_change_of_each_tensor(memory, two):
    old, new = (_view(memory, tensors, name) for tensors, name in zip(two, "ab", strict=True))
    found = _distances(old, new)
    assert found["changed"] == (pytest.approx(0.5), pytest.approx(0.5 / 300), 1, 300)
    assert found["kept"] == (0, 0, 0, 20)
    assert found["type"] == (0, 0, 0, 3)
    assert "shape" not in found
    assert _verdicts(compare_checkpoints(old, new, deep=True)) == _verdicts(compare_checkpoints(old, new))


def test_a_tensor_whose_shared_record_changed_is_cleared_by_a_deep_comparison(memory):
    whole = torch.zeros(10)
    other = whole.clone()
    other[9] = 1
    old = _view(memory, {"head": whole[:5], "tail": whole[5:]}, "a")
    new = _view(memory, {"head": other[:5], "tail": other[5:]}, "b")
    assert _verdicts(compare_checkpoints(old, new)) == {"head": "changed", "tail": "changed"}
    assert _verdicts(compare_checkpoints(old, new, deep=True)) == {"head": "same", "tail": "changed"}


def test_the_same_record_under_another_layout_is_another_tensor(memory):
    square = torch.arange(4.0).reshape(2, 2)
    old, new = _view(memory, {"w": square}, "a"), _view(memory, {"w": square.t()}, "b")
    assert _verdicts(compare_checkpoints(old, new)) == {"w": "changed"}
    assert _distances(old, new)["w"] == (1, 0.5, 2, 4)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "largest"),
    [
        (torch.tensor([2**62]), torch.tensor([2**62 + 1]), "changed", 0),
        (torch.tensor([True, False]), torch.tensor([True, True]), "changed", 1),
        (torch.tensor([math.nan, math.inf]), torch.tensor([math.nan, math.inf]), "same", 0),
        (torch.tensor([1.0]), torch.tensor([math.inf]), "changed", math.inf),
        (torch.tensor([1.0, 5.0]), torch.tensor([math.nan, 9.0]), "changed", math.nan),
        (torch.tensor([3 + 4j]), torch.tensor([0j]), "changed", 5),
        (torch.tensor([1.5]).to(torch.float8_e4m3fn), torch.tensor([2.0]).to(torch.float8_e4m3fn), "changed", 0.5),
        (torch.empty(0), torch.empty(0), "same", 0),
    ],
    ids=["large int", "bool", "nan", "inf", "nan came", "complex", "float8", "empty"],
)  # fmt: skip
def test_numbers_of_every_kind_are_compared(memory, before, after, verdict, largest):
    old, new = _view(memory, {"w": before}, "a"), _view(memory, {"w": after}, "b")
    assert _verdicts(compare_checkpoints(old, new, deep=True)) == {"w": verdict}
    assert _distances(old, new)["w"][0] == pytest.approx(largest, nan_ok=True)


def test_a_deep_comparison_goes_on_over_many_blocks(memory, monkeypatch):
    from ckptstore.comparing import checkpoints

    monkeypatch.setattr(checkpoints, "_BLOCK", 7)
    one = torch.arange(100.0)
    two = one.clone()
    two[::10] += 1
    found = _distances(_view(memory, {"w": one}, "a"), _view(memory, {"w": two}, "b"))
    assert found["w"] == (1, pytest.approx(0.1), 10, 100)


def test_damage_is_not_taken_for_a_change(memory):
    old = _view(memory, {"w": torch.zeros(1000)}, "b")
    _view(memory, {"w": torch.zeros(1000)}, "a")
    flip(memory, "checkpoints/a", 1000)
    new = CheckpointView(memory, archive.read_index(memory, "checkpoints/a"))
    with pytest.raises(CorruptCheckpoint, match="CRC32"):
        compare_checkpoints(old, new, deep=True)


def test_the_header_is_compared_by_path(memory):
    optimizer = {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    slower = {**optimizer, "param_groups": [{"lr": 0.01, "params": [0]}]}
    old = _view(memory, {"w": torch.zeros(1)}, "a", step=1, metadata={"loss": 2.0}, optimizer_state_dict=optimizer)
    new = _view(memory, {"w": torch.zeros(1)}, "b", step=2, metadata={"loss": 1.0}, optimizer_state_dict=slower)
    found = compare_checkpoints(old, new)
    assert {change.path: (change.old, change.new) for change in found.header} == {
        "step": (1, 2), "metadata.loss": (2.0, 1.0), "optimizer[0].lr": (0.1, 0.01)
    }  # fmt: skip
    assert found.as_dict()["tensors"][0]["verdict"] == "same"


def test_experiments_form_trees_by_their_parents(any_store):
    root = _made(any_store, config={"lr": 1})
    child = _made(any_store, config={"lr": 2}, parent=root.exp_hash)
    other = _made(any_store, config={"lr": 3}, parent=root.exp_hash)
    orphan = _made(any_store, config={"lr": 4}, parent="0" * 16)
    trees = lineage(any_store)
    assert [tree.experiment.exp_hash for tree in trees] == [root.exp_hash, orphan.exp_hash]
    assert [below.experiment.exp_hash for below in trees[0].children] == [child.exp_hash, other.exp_hash]
    assert trees[0].as_dict()["children"][0]["parent"] == root.exp_hash


def test_a_circle_of_parents_is_shown_and_ends(memory):
    one, two = _made(memory, config={"lr": 1}), _made(memory, config={"lr": 2})
    one.overwrite_provenance(replace(one.provenance(), parent=two.exp_hash))
    two.overwrite_provenance(replace(two.provenance(), parent=one.exp_hash))
    assert {tree.experiment.exp_hash for tree in lineage(memory)} == {one.exp_hash, two.exp_hash}


def test_an_overview_knows_steps_sizes_and_the_best_checkpoint(any_store):
    model = _net(4)
    manager = CheckpointManagerV2(any_store)
    exp_hash, _ = manager.update_experiment_hash(model, {"lr": 1}, range(5))
    for step, loss in ((10, 0.5), (20, 0.25), (30, math.nan)):
        manager.save_model_checkpoint(model, step=step, metadata={"val": {"loss": loss}, "lr": 3})
    [found] = overviews(any_store)
    assert (found.exp_hash, found.steps, found.sample_count) == (exp_hash, (10, 20, 30), 5)
    assert found.best == Best("val.loss", "min", 0.25, 20)
    assert found.size_bytes == sum(info.size_bytes for info in any_store.list())
    assert found.created_at
    assert found.saved_at
    assert found.created_at <= found.saved_at
    [quick] = overviews(any_store, most_headers=2)
    assert quick.best is None
    assert quick.steps == (10, 20, 30)


def test_an_experiment_without_a_sound_record_is_shown_with_its_problem(memory):
    whole, bare = _made(memory, config={"lr": 1}), _made(memory, config={"lr": 2})
    key = f"checkpoints/{bare.exp_hash}/hp/{bare.exp_hash}_provenance.yaml"
    memory.delete([key])
    problems = {found.exp_hash: found.problem for found in overviews(memory)}
    assert problems[whole.exp_hash] == ""
    assert "no record" in problems[bare.exp_hash]
    memory.put(key, b"format: 1\n# sha256: " + b"0" * 64)
    assert "checksum" in next(found.problem for found in overviews(memory) if found.exp_hash == bare.exp_hash)


def test_the_metric_to_judge_by_is_the_one_that_tells_most():
    assert chosen_metric([{"lr": 1}]) is None
    assert chosen_metric([{"lr": 1, "loss": 2.0}]) == Metric("loss", "min")
    assert chosen_metric([{"loss": 2.0, "accuracy": 0.5}]) == Metric("accuracy", "max")
    assert chosen_metric([{"trainAccuracy": 0.5, "val_loss": 1.0}]) == Metric("val_loss", "min")
    assert chosen_metric([{}, {"eval": {"top1": 0.1}}]) == Metric("eval.top1", "max")
    assert chosen_metric([{"loss": True, "accuracy": "high"}]) is None


def test_the_best_of_equal_ones_is_the_later_and_never_nan():
    found = [(1, {"acc": 0.5}), (2, {"acc": 0.9}), (3, {"acc": 0.9}), (4, {"acc": math.nan}), (5, {"acc": math.inf})]
    assert best_of(found) == Best("acc", "max", 0.9, 3)
    assert best_of(found, Metric("acc", "min")) == Best("acc", "min", 0.5, 1)
    assert best_of(found, Metric("other", "min")) is None


def test_a_metric_is_named_with_its_direction_where_it_does_not_tell():
    assert parsed_metric("reg:min") == Metric("reg", "min")
    assert parsed_metric("val:acc") == Metric("val:acc", "max")
    with pytest.raises(ValueError, match="write reg:min or reg:max"):
        parsed_metric("reg")
