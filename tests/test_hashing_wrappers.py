from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ckptstore.errors import UnsupportedModel
from ckptstore.hashing import clean_names, describe_model, unwrap
from tests.hashing_models import TwoLayers


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", init_method=(tmp_path / "rendezvous").as_uri(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def compiled(model):
    return torch.compile(model, backend="eager")


class Module(nn.Module):
    """A model with a submodule of its own that is called "module", and one that is called "_orig_mod"."""

    def __init__(self, wrap=lambda model: model):
        super().__init__()
        self.module = nn.Linear(2, 2)
        self._orig_mod = nn.ModuleDict({"module": nn.Linear(2, 2)})
        self.inner = wrap(nn.Sequential(nn.Linear(2, 2)))


WRAPS = {
    "data parallel": DataParallel,
    "compiled": compiled,
    "compiled data parallel": lambda model: compiled(DataParallel(model)),
    "data parallel compiled": lambda model: DataParallel(compiled(model)),
    "thrice": lambda model: DataParallel(compiled(DataParallel(model))),
}


@pytest.mark.parametrize("name", WRAPS)
def test_a_wrapped_model_is_the_model(name):
    for model in (TwoLayers(), Module()):
        wrapped = WRAPS[name](model)
        assert unwrap(wrapped) is model
        assert describe_model(wrapped) == describe_model(model)
        names = clean_names(wrapped, wrapped.state_dict())
        assert list(names) == list(wrapped.state_dict())
        assert list(names.values()) == list(model.state_dict())


@pytest.mark.parametrize("name", WRAPS)
def test_a_wrapper_in_the_middle_of_the_tree_is_looked_through(name):
    plain, wrapped = Module(), Module(WRAPS[name])
    assert unwrap(wrapped) is wrapped
    assert describe_model(wrapped) == describe_model(plain)
    names = clean_names(wrapped, wrapped.state_dict())
    assert list(names.values()) == list(plain.state_dict())
    assert "_orig_mod.module.weight" in names.values()


def test_distributed_data_parallel_is_looked_through(process_group):
    model = TwoLayers()
    wrapped = DistributedDataParallel(model)
    assert unwrap(compiled(wrapped)) is model
    assert describe_model(wrapped) == describe_model(compiled(wrapped)) == describe_model(TwoLayers())
    assert list(clean_names(wrapped, wrapped.state_dict()).values()) == list(model.state_dict())


def test_a_subclass_of_a_wrapper_is_one():
    class Parallel(DataParallel[nn.Module]):
        pass

    model = nn.Linear(2, 2)
    assert unwrap(Parallel(model)) is model
    assert describe_model(Parallel(model)) == describe_model(model)


def test_a_model_compiled_in_place_is_the_model():
    model = TwoLayers()
    before = describe_model(model)
    model.compile(backend="eager")
    assert describe_model(model) == before
    assert clean_names(model, ["first.weight"]) == {"first.weight": "first.weight"}


def test_a_submodule_called_module_keeps_its_name():
    model = Module()
    names = clean_names(model, model.state_dict())
    assert all(actual == clean for actual, clean in names.items())
    assert describe_model(model).modules.keys() >= {"module", "_orig_mod", "_orig_mod.module"}


def test_names_lead_both_ways():
    wrapped = compiled(Module(DataParallel))
    state = wrapped.state_dict()
    names = clean_names(wrapped, state)
    back = {clean: actual for actual, clean in names.items()}
    assert [back[clean] for clean in Module().state_dict()] == list(state)


def test_names_of_no_module_stay():
    wrapped = DataParallel(nn.Linear(2, 2))
    names = ["module.weight", "module._extra_state", "weight", "module", "other.module.x", ""]
    assert list(clean_names(wrapped, names).values()) == [
        "weight",
        "_extra_state",
        "weight",
        "",
        "other.module.x",
        "",
    ]


@pytest.mark.parametrize("act", [unwrap, describe_model, lambda thing: clean_names(thing, [])])
def test_what_is_no_module_is_refused(act):
    with pytest.raises(UnsupportedModel, match="give an instance"):
        act({"weight": 1})


def test_a_sharded_model_is_refused(process_group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_module

    sharded = distribute_module(nn.Sequential(nn.Linear(2, 2)), init_device_mesh("cpu", (1,)))
    with pytest.raises(UnsupportedModel, match=r"'0\.weight' is a DTensor.*torch\.distributed\.checkpoint"):
        describe_model(sharded)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_model_in_fully_sharded_data_parallel_is_refused(process_group):
    from torch.distributed.fsdp import FullyShardedDataParallel

    sharded = FullyShardedDataParallel(nn.Linear(2, 2), device_id=torch.device("cpu"))
    with pytest.raises(UnsupportedModel, match="module 'model' is sharded by FullyShardedDataParallel"):
        describe_model(nn.ModuleDict({"model": sharded}))
