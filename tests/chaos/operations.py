"""What is killed: a save, a mirror, a prune, a compress."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import nn

from ckptstore import CheckpointManagerV2, Latest, compress, keys, mirror, prune
from ckptstore.archive import load
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.store import Store
from ckptstore.testing.faulty import FaultyStore
from ckptstore_backends.local import LocalStore
from tests.chaos.harness import Operation
from tests.mirrored import ONE, THREE, TWO, check_safe_to_read, contents, lay_out

_CONFIG = {"lr": 1e-3}
_DAY_S = 86_400


def _model(step: int) -> nn.Module:
    """Return a model whose weights tell the step."""
    model = nn.Linear(64, 128)
    with torch.no_grad():
        model.weight.copy_(torch.arange(model.weight.numel()).view_as(model.weight) / 7 + step)
        model.bias.fill_(step)
    return model


def _experiment(store: Store) -> Experiment:
    [exp_hash] = list_hashes(store)
    return Experiment(store, exp_hash)


def _train(store: Store, steps: range) -> None:
    with CheckpointManagerV2(store) as manager:
        manager.update_experiment_hash(model=_model(0), config=_CONFIG, active_data_uids=range(10))
        for step in steps:
            manager.save_model_checkpoint(_model(step), step=step, metadata={"loss": 1 / (step + 1)})


def _check_checkpoints(store: Store, expected: range) -> list[int]:
    """Assert that every checkpoint is whole and has the weights of its step; return the steps."""
    steps = []
    for record in _experiment(store).checkpoints():
        state = load(store, record.info.key)["model_state_dict"]
        assert all(torch.equal(state[name], value) for name, value in _model(record.step).state_dict().items())
        steps.append(record.step)
    assert set(steps) <= set(expected), steps
    return steps


def _age(folder: Path) -> None:
    """Make every file two days old."""
    old = time.time() - 2 * _DAY_S
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (old, old))


class Save:
    """A training run that goes on: an experiment found again, two checkpoints saved."""

    name = "save"

    def prepare(self, folder: Path) -> None:
        _train(LocalStore(folder), range(1, 2))

    def act(self, folder: Path, seed: int) -> None:
        _train(LocalStore(folder), range(2, 4))

    def check(self, folder: Path) -> None:
        store = LocalStore(folder)
        steps = _check_checkpoints(store, range(1, 4))
        assert steps == list(range(1, len(steps) + 1)), steps
        _experiment(store).provenance()

    def check_complete(self, folder: Path) -> None:
        assert _check_checkpoints(LocalStore(folder), range(1, 4)) == [1, 2, 3]


class Begin:
    """The first save of a new experiment: config, record, architecture, checkpoint."""

    name = "begin"

    def prepare(self, folder: Path) -> None:
        folder.mkdir()

    def act(self, folder: Path, seed: int) -> None:
        _train(LocalStore(folder), range(1, 2))

    def check(self, folder: Path) -> None:
        store = LocalStore(folder)
        there = contents(store)
        if any("_step_" in key for key in there):
            _check_checkpoints(store, range(1, 2))
            exp_hash = _experiment(store).exp_hash
            assert keys.architecture_key(exp_hash) in there
        if any(key.endswith("_provenance.yaml") for key in there):
            _experiment(store).provenance()
            _experiment(store).read_config()

    def check_complete(self, folder: Path) -> None:
        assert _check_checkpoints(LocalStore(folder), range(1, 2)) == [1]
        _experiment(LocalStore(folder)).provenance()


class Mirror:
    """A mirror of three experiments, each of which came out of the next, over an older state of one of them."""

    name = "mirror"

    def prepare(self, folder: Path) -> None:
        self._lay_out_source(LocalStore(folder / "source"))
        target = LocalStore(folder / "target")
        lay_out(target, THREE, [1, 9], size_bytes=200_000)

    def _lay_out_source(self, store: Store) -> None:
        lay_out(store, THREE, range(4), size_bytes=200_000)
        lay_out(store, TWO, range(4), parent=THREE, size_bytes=50_000)
        lay_out(store, ONE, range(3), parent=TWO, size_bytes=2_000_000)

    def act(self, folder: Path, seed: int) -> None:
        source: Store = LocalStore(folder / "source")
        if seed % 2:
            source = FaultyStore(source)  # which no kernel copies from
        mirror(source, LocalStore(folder / "target"), delete=True, workers=1 + seed % 5)

    def check(self, folder: Path) -> None:
        check_safe_to_read(LocalStore(folder / "target"))
        assert len(contents(LocalStore(folder / "source"))) == 29

    def check_complete(self, folder: Path) -> None:
        assert contents(LocalStore(folder / "target")) == contents(LocalStore(folder / "source"))


class Prune:
    """A prune of old checkpoints down to four."""

    name = "prune"

    def prepare(self, folder: Path) -> None:
        _train(LocalStore(folder), range(1, 11))
        _age(folder)

    def act(self, folder: Path, seed: int) -> None:
        prune(LocalStore(folder), Latest(4))

    def check(self, folder: Path) -> None:
        steps = _check_checkpoints(LocalStore(folder), range(1, 11))
        assert steps[-4:] == [7, 8, 9, 10], steps

    def check_complete(self, folder: Path) -> None:
        assert _check_checkpoints(LocalStore(folder), range(1, 11)) == [7, 8, 9, 10]


class Compress:
    """A compression of all checkpoints but the newest."""

    name = "compress"

    def prepare(self, folder: Path) -> None:
        _train(LocalStore(folder), range(1, 5))

    def act(self, folder: Path, seed: int) -> None:
        compress(LocalStore(folder), keep_latest=1, workers=1 + seed % 2)

    def check(self, folder: Path) -> None:
        assert _check_checkpoints(LocalStore(folder), range(1, 5)) == [1, 2, 3, 4]

    def check_complete(self, folder: Path) -> None:
        suffixes = [record.compressed for record in _experiment(LocalStore(folder)).checkpoints()]
        assert suffixes == [True, True, True, False]
        assert sum("_step_" in key for key in contents(LocalStore(folder))) == 4


OPERATIONS: tuple[Operation, ...] = (Begin(), Save(), Mirror(), Prune(), Compress())
