"""The architecture file: structure and constants without weights."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys
from ckptstore.companions import SealedPickle, seal_pickle
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    UnsupportedFormat,
    UnsupportedModel,
    UntrustedPickle,
)
from tests.models import Net, Tied


def _saved(store, model):
    manager = CheckpointManagerV2(store)
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1)
    return manager


def test_the_architecture_and_a_checkpoint_make_the_model_again(any_store):
    model = Tied()
    manager = _saved(any_store, model)
    again = manager.load_architecture(trusted=True)
    assert all(parameter.is_meta for parameter in again.parameters())
    manager.load_latest_checkpoint(again)
    x = torch.tensor([[1, 2]])
    assert torch.equal(again(x), model(x))
    assert again.encode.weight is again.decode.weight
    assert "table" not in again.state_dict()


def test_it_is_saved_once_per_hash(any_store):
    manager = _saved(any_store, Net())
    key = keys.architecture_key(manager.exp_hash)
    version = any_store.stat(key).version
    manager.save_model_checkpoint(Net(), step=2)
    assert manager.save_model_architecture(Net()).name == f"{manager.exp_hash}_architecture.pkl"
    assert any_store.stat(key).version == version


def test_it_holds_no_weights(any_store):
    manager = _saved(any_store, nn.Linear(1000, 1000))
    assert any_store.stat(keys.architecture_key(manager.exp_hash)).size_bytes < 4096


def test_the_printed_form_is_for_people(any_store):
    manager = _saved(any_store, Net())
    text = bytes(any_store.get(keys.architecture_text_key(manager.exp_hash))).decode()
    assert "(conv): Conv2d(1, 8, kernel_size=(3, 3)" in text
    assert "parameters: 195" in text


def test_wrappers_are_left_out(any_store):
    manager = _saved(any_store, nn.DataParallel(Net()))
    assert type(manager.load_architecture(trusted=True)) is Net


def test_nothing_is_loaded_without_trust(any_store):
    manager = _saved(any_store, Net())
    with pytest.raises(UntrustedPickle, match="pass trusted=True"):
        manager.load_architecture()
    with pytest.raises(UntrustedPickle):
        manager.load_architecture(trusted=1)


def test_a_malicious_pickle_is_not_executed_without_trust(any_store, tmp_path):
    manager = _saved(any_store, Net())

    class Exploit:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    any_store.put(keys.architecture_key(manager.exp_hash), pickle.dumps(Exploit()))
    with pytest.raises(UntrustedPickle):
        manager.load_architecture()
    manager.load_latest_checkpoint(Net())
    assert not (tmp_path / "executed").exists()


def test_a_large_tensor_outside_the_state_dict_is_refused_by_name(any_store):
    model = Net()
    model.cache = torch.empty(17 * 1024 * 1024)
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(model)
    with pytest.raises(UnsupportedModel, match="attribute cache of Net is a tensor of 71303168 bytes"):
        manager.save_model_architecture(model)


def test_a_model_that_cannot_be_pickled_is_still_saved_with_a_warning(any_store):
    model = Net()
    vars(model)["lock"] = threading.Lock()
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(model)
    with pytest.warns(CkptStoreWarning, match="architecture not saved: Net cannot be pickled"):
        manager.save_model_checkpoint(model, step=1)
    assert manager.get_checkpoint_info()["steps"] == [1]
    assert manager.get_checkpoint_info()["architecture_saved"] is False


def test_a_class_defined_in_a_script_loads_in_another_process(any_store, tmp_path):
    class Local(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, x):
            return x * self.weight

    manager = _saved(any_store, Local())
    path = tmp_path / "architecture.pkl"
    path.write_bytes(any_store.get(keys.architecture_key(manager.exp_hash)))
    program = (
        "import sys; from ckptstore.skeleton import load_skeleton, materialise\n"
        "model = load_skeleton(open(sys.argv[1], 'rb').read(), 'x'); materialise(model, 'cpu')\n"
        "print(type(model).__name__, tuple(model.weight.shape))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Local (2,)"


def test_classes_by_value_of_another_python_are_refused_clearly(any_store):
    manager = _saved(any_store, Net())
    other = seal_pickle(SealedPickle(b"\x80\x04N.", "3.5", by_value=True))
    any_store.put(keys.architecture_key(manager.exp_hash), other)
    with pytest.raises(UnsupportedFormat, match=r"written by Python 3\.5"):
        manager.load_architecture(trusted=True)


def test_a_class_that_is_not_here_is_named(any_store):
    manager = _saved(any_store, Net())
    any_store.put(keys.architecture_key(manager.exp_hash), b"cnowhere_to_be_found\nNet\n.")
    with pytest.raises(UnsupportedFormat, match="nowhere_to_be_found"):
        manager.load_architecture(trusted=True)


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps({"a": 1})])
def test_what_is_no_architecture_says_so(any_store, data):
    manager = _saved(any_store, Net())
    any_store.put(keys.architecture_key(manager.exp_hash), data)
    with pytest.raises(CorruptCheckpoint):
        manager.load_architecture(trusted=True)


def test_a_flipped_bit_is_found_before_anything_runs(any_store):
    manager = _saved(any_store, Net())
    key = keys.architecture_key(manager.exp_hash)
    data = bytearray(any_store.get(key))
    data[50] ^= 1
    any_store.put(key, data)
    with pytest.raises(CorruptCheckpoint, match="does not match its own checksum"):
        manager.load_architecture(trusted=True)


def test_an_experiment_without_one_says_how_to_get_it(any_store):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(config={"a": 1})
    with pytest.raises(CheckpointNotFound, match="save_model_architecture"):
        manager.load_architecture(trusted=True)


def test_frozen_parameters_stay_frozen_and_dtypes_stay(any_store):
    model = Net().to(torch.bfloat16)
    model.head.weight.requires_grad_(False)
    manager = _saved(any_store, model)
    again = manager.load_architecture(trusted=True)
    manager.load_latest_checkpoint(again)
    assert not again.head.weight.requires_grad
    assert again.conv.weight.requires_grad
    assert again.conv.weight.dtype == torch.bfloat16
