"""A store whose every number is fixed, so that what the command line prints of it can be compared literally."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import torch
from torch import nn

from ckptstore import CheckpointManagerV2
from ckptstore.archive import plan
from ckptstore.companions import SealedPickle, seal_pickle, seal_text
from ckptstore.experiment import Experiment
from ckptstore.keys import architecture_key, architecture_text_key, checkpoint_key
from ckptstore.store import Store

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
"""When the commands of a test run."""

ROOT, SLOWER, WIDER = "8dba9db25d9244b6", "378fe33b5f9aa0c3", "e707d36a7c789a60"
"""Its experiments: the first, and two that came out of it."""

_CONFIG = {"optimizer": {"name": "adamw", "lr": 0.01}, "epochs": 3}
_LOSSES = {100: 0.9, 200: 0.4, 300: 0.5}


def fill(store: Store) -> None:
    """Write the experiments."""
    uids = [f"img-{number:04d}" for number in range(1200)]
    root = _experiment(store, _model(3), _CONFIG, uids, age=timedelta(days=3))
    slower = {**_CONFIG, "optimizer": {"name": "adamw", "lr": 0.002}}
    _experiment(store, _model(3), slower, uids[:-2], age=timedelta(days=1), parent=root.exp_hash)
    _experiment(store, _model(5), _CONFIG, uids, age=timedelta(hours=5), parent=root.exp_hash, losses={})


def _model(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def _experiment(
    store: Store,
    model: nn.Module,
    config: Mapping[str, Any],
    uids: Iterable[str],
    *,
    age: timedelta,
    parent: str | None = None,
    losses: Mapping[int, float] | None = None,
) -> Experiment:
    manager = CheckpointManagerV2(store, parent=parent)
    exp_hash, _ = manager.update_experiment_hash(model, config, uids)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    store.put(architecture_text_key(exp_hash), seal_text(f"{model}\n\nparameters: {parameters:,}\n"))
    store.put(architecture_key(exp_hash), seal_pickle(SealedPickle(b"\x80\x04}.", "3.11", by_value=False)))
    experiment, created = Experiment(store, exp_hash), NOW - age
    versions = {"ckptstore": "0.1.0", "torch": "2.13.0", "python": "3.11.7"}
    record = replace(
        experiment.provenance(), created_at=created.isoformat(), versions=versions, git_commit="c0ffee" * 6
    )
    experiment.overwrite_provenance(record)
    for step, loss in (_LOSSES if losses is None else losses).items():
        saved = created + timedelta(minutes=step)
        _checkpoint(store, exp_hash, step, model, saved, {"loss": loss, "accuracy": 1 - loss / 2})
    return experiment


def _checkpoint(
    store: Store, exp_hash: str, step: int, model: nn.Module, saved: datetime, metadata: Mapping[str, Any]
) -> None:
    state = {
        name: torch.arange(float(value.numel())).reshape(value.shape) + (step if name == "2.bias" else 0)
        for name, value in model.state_dict().items()
    }
    checkpoint = {
        "format": 1,
        "step": step,
        "exp_hash": exp_hash,
        "timestamp": saved.isoformat(),
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1 / step, "params": [0, 1, 2, 3]}]},
        "metadata": metadata,
        "config": {"optimizer": {"lr": 0.01}},
        "run_id": "0123456789abcdef" * 2,
        "resumed_from": None,
    }
    store.put(checkpoint_key(exp_hash, step), plan(checkpoint).buffers())
