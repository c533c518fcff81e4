"""Loading: the newest sound one, all or nothing, never any code."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    InvalidName,
    NewerFormat,
    UnknownExperiment,
)
from tests.models import Job, Net, Tied, checkpoint_key, same


def _damage_truncated(data):
    return data[: len(data) // 2]


def _damage_flipped(data):
    flipped = bytearray(data)
    flipped[len(data) // 3] ^= 4
    return bytes(flipped)


DAMAGES = {
    "truncated": _damage_truncated,
    "cut by one byte": lambda data: data[:-1],
    "bit-flipped": _damage_flipped,
    "empty": lambda _: b"",
    "another format": lambda _: b"<html>not found</html>" * 100,
    "noise": lambda data: os.urandom(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning_that_names_it(manager, saved, damage):
    manager.store.put(checkpoint_key(manager), damage(bytes(manager.store.get(checkpoint_key(manager)))))
    model = Net()
    with pytest.warns(CkptStoreWarning, match=r"checkpoint skipped: .*_step_000020.pt"):
        checkpoint = manager.load_latest_checkpoint(model)
    assert checkpoint["step"] == 10
    assert same(dict(model.state_dict()), dict(checkpoint["model_state_dict"]))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_asked_for_by_step_is_an_error_and_touches_nothing(manager, saved, damage):
    manager.store.put(checkpoint_key(manager), damage(bytes(manager.store.get(checkpoint_key(manager)))))
    job = Job(5).train(1)
    before = _copied(job)
    with pytest.raises(CorruptCheckpoint, match=r"_step_000020.pt"):
        manager.load_checkpoint(job.model, step=20, optimizer=job.optimizer)
    assert same(job.state(), before)


def _copied(job):
    buffer = io.BytesIO()
    torch.save(job.state(), buffer)
    buffer.seek(0)
    return torch.load(buffer)


def test_everything_is_restored_bit_for_bit(manager, saved):
    job = Job(9).train(1)
    checkpoint = manager.load_latest_checkpoint(job.model, optimizer=job.optimizer, scheduler=job.scheduler)
    assert checkpoint["step"] == 20
    assert same(job.state(), saved.state())


def test_with_nothing_saved_the_answer_is_none_and_a_warning(manager):
    with pytest.warns(CkptStoreWarning, match="nothing to load: no sound checkpoint"):
        assert manager.load_latest_checkpoint(Net()) is None


def test_an_unknown_hash_is_none_and_a_warning_that_lists_the_known_ones(manager):
    with pytest.warns(CkptStoreWarning, match=rf"of experiment 0000000000000000; .*{manager.exp_hash}"):
        assert manager.load_latest_checkpoint(Net(), exp_hash="0" * 16) is None
    with pytest.raises(UnknownExperiment, match=manager.exp_hash):
        manager.get_checkpoint_info("0" * 16)


def test_a_hash_that_is_none_is_refused(manager):
    with pytest.raises(InvalidName, match="not 16 lower-case hex digits"):
        manager.load_latest_checkpoint(Net(), exp_hash="../../etc")


def test_a_step_that_is_not_there_lists_those_that_are(manager, saved):
    with pytest.raises(CheckpointNotFound, match=r"no checkpoint of step 15: .*steps: 10, 20"):
        manager.load_checkpoint(step=15)
    assert manager.load_checkpoint(step=15, nearest=True)["step"] == 10
    assert manager.load_checkpoint(step=16, nearest=True)["step"] == 20


def test_a_model_that_does_not_fit_is_refused_with_the_differences_and_nothing_is_touched(manager, saved):
    job = Job(5).train(1)
    job.model.head = nn.Linear(8 * 4, 5)
    job.model.extra = nn.Linear(1, 1)
    before = _copied(job)
    with pytest.raises(IncompatibleCheckpoint) as raised:
        manager.load_latest_checkpoint(job.model, optimizer=job.optimizer)
    assert "head.weight: shape [5, 32] in the model, [3, 32] in the checkpoint" in raised.value.differences
    assert "extra.weight: in the model, not in the checkpoint" in raised.value.differences
    assert same(job.state(), before)


def test_an_optimizer_that_does_not_fit_leaves_the_model_alone_too(manager, saved):
    job = Job(5)
    before = _copied(job)
    wrong = torch.optim.SGD(job.model.parameters(), lr=1)
    with pytest.raises(IncompatibleCheckpoint, match="optimizer group 0: has"):
        manager.load_latest_checkpoint(job.model, optimizer=wrong)
    fewer = torch.optim.AdamW(list(job.model.parameters())[1:], lr=1)
    with pytest.raises(IncompatibleCheckpoint, match="5 parameters, 6 in the checkpoint"):
        manager.load_latest_checkpoint(job.model, optimizer=fewer)
    assert same(job.state(), before)


def test_a_part_that_the_checkpoint_lacks_is_refused(manager):
    manager.save_model_checkpoint(Net(), step=1)
    job = Job()
    with pytest.raises(IncompatibleCheckpoint, match="optimizer: given, but the checkpoint holds none"):
        manager.load_latest_checkpoint(job.model, optimizer=job.optimizer)
    assert manager.load_latest_checkpoint(job.model)["step"] == 1


def test_a_failure_while_restoring_is_undone(manager, saved):
    class Breaking(Net):
        def _load_from_state_dict(self, *args, **kwargs):
            raise RuntimeError("broken hook")

    job = Job(5).train(1)
    before = _copied(job)
    with pytest.raises(IncompatibleCheckpoint, match="broken hook"):
        manager.load_latest_checkpoint(Breaking(), optimizer=job.optimizer, scheduler=job.scheduler)
    assert same(job.state(), before)


def test_not_strict_accepts_other_entries_and_dtypes_but_no_other_shape(manager, saved):
    class More(Net):
        def __init__(self):
            super().__init__()
            self.extra = nn.Linear(1, 1)

    model = More().to(torch.float64)
    with pytest.warns(CkptStoreWarning, match="loaded in part: it lacks 2 entries of the model"):
        manager.load_latest_checkpoint(model, strict=False)
    assert torch.equal(model.head.weight, saved.model.head.weight.double())
    with pytest.raises(IncompatibleCheckpoint, match="shape"):
        manager.load_latest_checkpoint(Net(width=9), strict=False)


def test_map_location_places_the_returned_tensors(manager, saved):
    checkpoint = manager.load_latest_checkpoint(map_location="meta")
    assert all(value.is_meta for value in checkpoint["model_state_dict"].values())


def test_a_checkpoint_of_a_newer_format_is_not_passed_over_silently(manager, saved):
    state = torch.load(io.BytesIO(manager.store.get(checkpoint_key(manager))), weights_only=True)
    buffer = io.BytesIO()
    torch.save({**state, "format": 99}, buffer)
    manager.store.put(checkpoint_key(manager), buffer.getvalue())
    with pytest.raises(NewerFormat, match=r"format 99.*upgrade ckptstore"):
        manager.load_latest_checkpoint()


def test_a_checkpoint_copied_from_another_experiment_or_step_is_refused(manager, saved):
    manager.store.copy(checkpoint_key(manager, 10), checkpoint_key(manager, 30))
    with pytest.raises(CorruptCheckpoint, match="holds step 10; it was renamed"):
        manager.load_checkpoint(step=30)
    first = manager.exp_hash
    second, _ = manager.update_experiment_hash(config={"lr": 9})
    manager.store.copy(keys.checkpoint_key(first, 10), keys.checkpoint_key(second, 10))
    with pytest.raises(CorruptCheckpoint, match=f"holds exp_hash '{first}'"):
        manager.load_checkpoint(step=10)


def test_a_checkpoint_that_torch_save_wrote_loads_too(manager):
    model = Job(4).model
    buffer = io.BytesIO()
    torch.save({"step": 7, "model_state_dict": model.state_dict()}, buffer)
    manager.store.put(checkpoint_key(manager, 7), buffer.getvalue())
    target = Net()
    assert manager.load_latest_checkpoint(target)["step"] == 7
    assert same(dict(target.state_dict()), dict(model.state_dict()))


def test_a_torch_file_that_is_no_checkpoint_says_so(manager):
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    manager.store.put(checkpoint_key(manager, 7), buffer.getvalue())
    with pytest.raises(CorruptCheckpoint, match="no model_state_dict"):
        manager.load_checkpoint(step=7)


class _Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("wrapping", ["torch.save", "bare pickle", "zip"])
def test_a_malicious_pickle_is_never_executed(manager, tmp_path, wrapping):
    marker = tmp_path / "executed"
    buffer = io.BytesIO()
    if wrapping == "torch.save":
        torch.save({"model_state_dict": _Exploit(str(marker))}, buffer)
    elif wrapping == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(_Exploit(str(marker)), protocol=2))
            archive.writestr("archive/version", "3")
            archive.writestr("archive/byteorder", "little")
    else:
        buffer.write(pickle.dumps(_Exploit(str(marker))))
    manager.store.put(checkpoint_key(manager, 7), buffer.getvalue())
    with pytest.raises(CorruptCheckpoint):
        manager.load_checkpoint(step=7)
    with pytest.warns(CkptStoreWarning):
        assert manager.load_latest_checkpoint() is None
    assert not marker.exists()


def test_tied_weights_stay_tied_and_equal(any_store):
    manager = CheckpointManagerV2(any_store)
    model = Tied()
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1)
    other = Tied()
    manager.load_latest_checkpoint(other)
    assert other.encode.weight is other.decode.weight
    assert torch.equal(other.encode.weight, model.encode.weight)


def test_a_model_on_the_meta_device_is_filled(manager, saved):
    with torch.device("meta"):
        model = Net()
    manager.load_latest_checkpoint(model)
    assert same(dict(model.state_dict()), dict(saved.model.state_dict()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_yaml_tags_are_never_executed(manager, tmp_path):
    marker = tmp_path / "executed"
    text = f"!!python/object/apply:os.mkdir ['{marker}']\n"
    manager.store.put(keys.config_key(manager.exp_hash), text.encode())
    with pytest.raises(CorruptCheckpoint, match="not plain YAML"):
        manager.load_config()
    assert not marker.exists()


def test_a_config_that_is_not_there_or_damaged_says_so(manager):
    with pytest.raises(CheckpointNotFound, match=r"_other.yaml"):
        manager.load_config(config_name="other")
    key = keys.config_key(manager.exp_hash)
    manager.store.put(key, bytes(manager.store.get(key)).replace(b"0.1", b"0.2"))
    with pytest.raises(CorruptCheckpoint, match="does not match its own checksum"):
        manager.load_config()


def test_a_config_of_an_older_tool_is_read(manager):
    manager.store.put(keys.config_key(manager.exp_hash), b"lr: 0.3\n")
    assert manager.load_config() == {"lr": 0.3}
