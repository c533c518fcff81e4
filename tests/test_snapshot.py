"""A snapshot is the file that the state would have become at that moment, whatever earlier ones have found out."""

from __future__ import annotations

import gc
import io
import random
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from ckptstore import CheckpointManagerV2
from ckptstore.archive import plan, savable
from ckptstore.errors import UnsavableState
from ckptstore.saving import model_state
from ckptstore.snapshot import SnapshotPool
from tests.archives import same, sharing
from tests.models import Net

State = dict[str, Any]


@pytest.fixture(autouse=True)
def two_threads():
    """Let torch compute with two, whatever the environment says: with one, nothing is copied on two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def large_state() -> State:
    """Parts large enough to be remembered, tensors of every size, and a little of all that a state can hold."""
    flat, tied = torch.randn(400), torch.randn(3, 3)
    return {
        "step": 1,
        "model": OrderedDict((f"layer.{n}", torch.nn.Parameter(torch.randn(4, 4))) for n in range(30)),
        "optimizer": {
            "state": {n: {"step": torch.tensor(1.0), "avg": torch.randn(n % 5, 2)} for n in range(30)},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": list(range(30))}],
        },
        "views": [flat[n * 10 : n * 10 + 10] for n in range(20)],
        "strided": [torch.randn(6, 4).t(), torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)],
        "huge": [torch.randn(300, 300), torch.randn(4)],
        "tied": [tied, tied, tied.view(9), torch.randn(3, 3)],
        "empty": [torch.empty(0), torch.empty(0, 3), torch.randn(4)[2:2]],
        "complex": [torch.randn(3, dtype=torch.complex64)],
        "numbers": {n: float(n) for n in range(20)},
        "text": {f"{n}": n for n in range(20)},
        "scheduler": {"last": 3, "rates": [0.1] * 20, "shape": torch.Size([1, 2]), "dtype": torch.float32},
        "rng": {"words": [2**32 - n for n in range(40)], "state": torch.get_rng_state()},
        "set": {1, 2, 3},
    }


def check(pool: SnapshotPool, state: State) -> None:
    """Take a snapshot, and compare it with what is found without a pool and what torch makes of it."""
    snapshot = pool.take(state)
    expected = b"".join(plan(state).buffers())
    moment = savable(state, place=lambda storage: storage.clone())
    stream = snapshot.stream()
    data = b"".join(stream.buffers())
    assert data == expected
    assert stream.size_bytes == len(data)
    assert b"".join(stream.buffers()) == data
    snapshot.release()
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    assert same(loaded, moment)
    assert sharing(loaded) == sharing(state)


def _train(state: State) -> None:
    with torch.no_grad():
        torch._foreach_mul_([*state["model"].values()], 1.5)
        torch._foreach_add_([part["step"] for part in state["optimizer"]["state"].values()], 1)
        state["huge"][0].add_(1)
        state["views"][3].zero_()


def _first(state: State) -> torch.nn.Parameter:
    found: torch.nn.Parameter = state["model"]["layer.0"]
    return found


def _set_data(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], None]:
    def act(state: State) -> None:
        _first(state).data = change(_first(state).data)

    return act


def _put(*path: Any, value: Callable[[Any], Any]) -> Callable[[State], None]:
    def act(state: State) -> None:
        *parents, last = path
        inner: Any = state
        for key in parents:
            inner = inner[key]
        inner[last] = value(inner[last])

    return act


def _reorder(state: State) -> None:
    state["model"].move_to_end("layer.1")


def _add_parameter(state: State) -> None:
    state["model"][f"extra.{len(state['model'])}"] = torch.nn.Parameter(torch.randn(2))


def _remove_parameter(state: State) -> None:
    state["model"].popitem()


def _swap_between_sections(state: State) -> None:
    model, inner = state["model"], state["optimizer"]["state"]
    model["layer.2"], inner[2]["avg"] = torch.nn.Parameter(inner[2]["avg"]), model["layer.2"].data


def _move_a_tensor_to_the_next_section(state: State) -> None:
    name, last = state["model"].popitem()
    state["optimizer"]["state"] = {0: {name: last.detach()}, **state["optimizer"]["state"]}


def _tie(state: State) -> None:
    state["model"]["layer.3"].data = state["model"]["layer.4"].data


def _untie(state: State) -> None:
    state["tied"][1] = state["tied"][1].clone()


def _another_number_for_a_key(state: State) -> None:
    state["numbers"] = {(True if key == 1 else key): value for key, value in state["numbers"].items()}


def _attribute(state: State) -> None:
    if isinstance(state["model"], OrderedDict):
        vars(state["model"])["_metadata"] = OrderedDict({"": {"version": random.randrange(9)}})


def _text_of_a_later_section_comes_earlier(state: State) -> None:
    state["step"] = "layer.7"


def _a_tensor_before_all_others(state: State) -> None:
    rest = dict(state)
    state.clear()
    state.update({f"first {len(rest)}": torch.randn(2), **rest})


def _new_tensors(state: State) -> None:
    for part in state["optimizer"]["state"].values():
        part.update({name: tensor.clone() for name, tensor in part.items()})


def _into_a_larger_storage(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat([tensor, tensor])[: len(tensor)]


CHANGES: dict[str, Callable[[State], None]] = {
    "nothing": lambda state: None,
    "an optimizer's step": _train,
    "memory of its own again": _set_data(torch.clone),
    "other strides in the same memory": _set_data(torch.t),
    "another shape in the same memory": _set_data(lambda t: t.reshape(2, -1)),
    "back to a square": _set_data(lambda t: t.reshape(4, 4)),
    "a part of larger memory": _set_data(_into_a_larger_storage),
    "half precision": _set_data(torch.Tensor.half),
    "double precision": _set_data(torch.Tensor.double),
    "other bits of the same width": _put(
        "huge", 1, value=lambda t: t.view(torch.int32 if t.is_floating_point() else torch.float32)
    ),
    "large enough to be a record of its own": _set_data(lambda t: t.new_ones(300, 300)),
    "small again": _set_data(lambda t: t.new_ones(4, 4)),
    "a conjugate view": _put("complex", 0, value=torch.conj),
    "a negative view": _put("complex", 0, value=lambda t: torch.complex(t.conj().imag, t.real).conj()),
    "more memory under a tensor": lambda state: state["views"][0].untyped_storage().resize_(8000),
    "a tensor grown in place": lambda state: state["huge"][1].resize_(len(state["huge"][1]) + 1).fill_(3),
    "tied": _tie,
    "untied": _untie,
    "another parameter": _add_parameter,
    "a parameter less": _remove_parameter,
    "another order": _reorder,
    "tensors swapped between sections": _swap_between_sections,
    "a tensor in another section": _move_a_tensor_to_the_next_section,
    "another learning rate": _put("optimizer", "param_groups", 0, "lr", value=lambda lr: lr / 2),
    "negative zero": _put("numbers", 0, value=lambda x: -x),
    "not a number": _put("numbers", 3, value=lambda x: float("nan")),
    "an int for a float": _put("numbers", 2, value=lambda x: int(x) if type(x) is float else float(x)),
    "a bool for an int": _put("scheduler", "last", value=bool),
    "an int for a bool": _put("scheduler", "last", value=int),
    "True for 1 as a key": _another_number_for_a_key,
    "a tuple for a list": _put("optimizer", "param_groups", 0, "params", value=tuple),
    "a list for a tuple": _put("optimizer", "param_groups", 0, "params", value=list),
    "a plain dict": _put("model", value=dict),
    "an ordered dict": _put("model", value=OrderedDict),
    "the versions beside a state dict": _attribute,
    "a text that was met later": _text_of_a_later_section_comes_earlier,
    "a step": _put("step", value=lambda step: 2),
    "a tensor before all others": _a_tensor_before_all_others,
    "a member more": lambda state: state["set"].add(len(state["set"])),
    "random numbers": _put("rng", "state", value=torch.clone),
    "new tensors": _new_tensors,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_between_two_snapshots_is_seen(change):
    pool, state = SnapshotPool(), large_state()
    check(pool, state)
    change(state)
    check(pool, state)
    _train(state)
    check(pool, state)


def many_tensors() -> State:
    """Enough that they are copied on two cores: of most dtypes, dense in any order, odd in length, trained or not."""
    dtypes = [torch.float32, torch.bfloat16, torch.float64, torch.int16, torch.uint8, torch.complex64, torch.bool]
    tensors = [torch.randint(0, 2, (64, 61 + n % 5, 2)).to(dtypes[n % 7]) for n in range(420)]
    tensors += [torch.nn.Parameter(torch.randn(90, 91).t()) for _ in range(60)]
    tensors += [torch.randn(2, 3, 10, 11).to(memory_format=torch.channels_last) for _ in range(20)]
    return {"many": tensors, "steps": [torch.tensor(float(n)) for n in range(40)]}


@pytest.mark.parametrize(("seed", "more"), [(0, dict), (1, dict), (2, dict), (3, many_tensors)])
def test_any_order_of_changes_is_seen(seed, more):
    chosen, pool, state = random.Random(seed), SnapshotPool(), large_state() | more()
    for _ in range(25):
        for change in chosen.sample(list(CHANGES.values()), 2):
            try:
                change(state)
            except (AttributeError, KeyError, RuntimeError, TypeError):  # it asks for what another one has taken away
                continue
        check(pool, state)


def test_snapshots_that_overlap_do_not_share_memory():
    pool, state = SnapshotPool(), large_state()
    taken = []
    for _ in range(3):
        _train(state)
        taken.append((pool.take(state), b"".join(plan(state).buffers())))
    for snapshot, expected in taken:
        assert b"".join(snapshot.stream().buffers()) == expected
        snapshot.release()
    check(pool, state)


def _without_memory() -> torch.Tensor:
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(0)
    return tensor


def test_a_state_that_cannot_be_saved_leaves_the_pool_as_it_was():
    pool, state = SnapshotPool(), large_state()
    check(pool, state)
    for bad, path in [
        (print, r"state\['bad'\]\['x'\]"),
        (torch.eye(2).to_sparse(), "sparse"),
        (_without_memory(), r"\['bad'\]\['x'\] has 0 bytes of memory where it needs 16"),
        (1 << 4000, "4001 bits"),
    ]:
        with pytest.raises(UnsavableState, match=path):
            pool.take({**state, "bad": {"x": bad}})
        check(pool, state)


def test_a_snapshot_given_back_late_never_serves_a_state_of_another_shape():
    pool = SnapshotPool()
    states = [{"tensor": torch.full((size,), 1.0 * size)} for size in (4, 100_000, 4)]
    early = [pool.take(state) for state in states]
    check(pool, states[1])
    for snapshot in early:
        snapshot.release()
    for state in states:
        check(pool, state)


def test_a_negative_view_of_all_of_the_same_memory_is_seen():
    pool, numbers = SnapshotPool(), torch.arange(1.0, 5.0)
    check(pool, {"tensor": numbers})
    negative: torch.Tensor = torch._neg_view(numbers)
    snapshot = pool.take({"tensor": negative})
    loaded = torch.load(io.BytesIO(b"".join(snapshot.stream().buffers())), weights_only=True)
    assert loaded["tensor"].tolist() == [-1, -2, -3, -4]


def test_memory_made_in_inference_mode_serves_training_too():
    pool, state = SnapshotPool(), large_state()
    with torch.inference_mode():
        check(pool, state)
        check(pool, many_tensors())
        check(pool, {"made here": torch.randn(70_000)})
    check(pool, {"made outside": torch.randn(70_000)})
    check(pool, many_tensors())
    check(pool, state)


def test_a_model_that_is_replaced_is_freed():
    pool, model = SnapshotPool(), torch.nn.Linear(300, 300)
    pool.take({"model": model.state_dict()}).release()
    snapshot, memory = pool.take({"model": model.state_dict()}), weakref.ref(model.weight)
    model.weight = torch.nn.Parameter(torch.zeros(2))
    gc.collect()
    assert memory() is None
    snapshot.release()


def test_saving_does_not_keep_a_program_from_resizing_its_memory():
    pool, tensor = SnapshotPool(), torch.ones(100_000)
    check(pool, {"tensor": tensor})
    tensor.resize_(200_000).fill_(2)
    check(pool, {"tensor": tensor})


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "fused": lambda parameters: torch.optim.Adam(parameters, fused=True),
    "foreach": lambda parameters: torch.optim.AdamW(parameters, foreach=True),
    "one by one": lambda parameters: torch.optim.NAdam(parameters, foreach=False),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_every_save_of_a_run_is_the_moment_of_its_call(make):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(Net() for _ in range(6)))
    optimizer, average = make(model.parameters()), AveragedModel(model, use_buffers=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=50)
    both = torch.nn.ModuleList([model, average])
    with CheckpointManagerV2(f"memory://{uuid.uuid4().hex}") as manager:
        manager.update_experiment_hash(both)
        for step in range(6):
            moment = savable(
                {"model": model_state(both), "optimizer": optimizer.state_dict(), "scheduler": schedule.state_dict()},
                place=lambda storage: storage.clone(),
            )
            handle = manager.save_model_checkpoint(
                both, step=step, optimizer=optimizer, scheduler=schedule, blocking=False
            )
            _train_on(model, optimizer, average)
            schedule.step()
            handle.result(60)
            loaded = manager.load_checkpoint(step=step)
            assert same({name: loaded[f"{name}_state_dict"] for name in moment}, moment)


def _train_on(model: torch.nn.Sequential, optimizer: torch.optim.Optimizer, average: AveragedModel) -> None:
    for net in model:
        net(torch.randn(4, 1, 4, 4)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update_parameters(model)
    first, second, *_ = model.parameters()
    first.data.mul_(2)
    second.data = second.data.clone()
