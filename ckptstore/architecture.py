"""A model's architecture in an experiment: its skeleton and its printed form, saved once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ckptstore import keys
from ckptstore.companions import seal_text
from ckptstore.errors import CheckpointNotFound, KeyNotFound, UnsupportedModel
from ckptstore.experiment import Experiment
from ckptstore.notices import warn
from ckptstore.skeleton import architecture_text, dump_skeleton, load_skeleton


@dataclass(frozen=True, slots=True)
class PreparedArchitecture:
    """An architecture's files, as the model was at one moment.

    Attributes:
        skeleton: the .pkl.
        text: the .txt.
    """

    skeleton: bytes
    text: bytes


def prepare_architecture(model: torch.nn.Module) -> PreparedArchitecture:
    """Return a model's architecture files; nothing is written.

    Raises:
        UnsupportedModel: the model cannot be pickled, or keeps a large tensor outside its state dict.
    """
    return PreparedArchitecture(dump_skeleton(model), seal_text(architecture_text(model)))


def prepare_architecture_if_possible(model: torch.nn.Module) -> PreparedArchitecture | None:
    """Return a model's architecture files, or warn where it does not allow it: its weights are worth more."""
    try:
        return prepare_architecture(model)
    except UnsupportedModel as error:
        warn(f"architecture not saved: {error}")
        return None


def save_architecture(experiment: Experiment, model: torch.nn.Module) -> None:
    """Save a model's architecture where the experiment has none.

    Raises:
        UnsupportedModel: the model cannot be pickled, or keeps large data outside its state dict.
    """
    if not _exists(experiment, keys.architecture_key(experiment.exp_hash)):
        write_architecture(experiment, prepare_architecture(model))


def write_architecture(experiment: Experiment, prepared: PreparedArchitecture) -> None:
    """Write the printed form, then the skeleton, where the experiment has no skeleton yet."""
    key = keys.architecture_key(experiment.exp_hash)
    if not _exists(experiment, key):
        experiment.store.put(keys.architecture_text_key(experiment.exp_hash), prepared.text)
        experiment.store.put(key, prepared.skeleton)


def load_architecture(experiment: Experiment, device: torch.device | str | None) -> torch.nn.Module:
    """Return the model of the skeleton, weights on the meta device, other buffers on the given one; runs its code.

    Raises:
        CheckpointNotFound: there is none.
        CorruptCheckpoint, UnsupportedFormat: it cannot be loaded here.
    """
    key = keys.architecture_key(experiment.exp_hash)
    try:
        data = experiment.store.get(key)
    except KeyNotFound:
        raise CheckpointNotFound(
            f"{experiment.where(key)} does not exist; the first checkpoint or save_model_architecture() writes it"
        ) from None
    model = load_skeleton(data, experiment.where(key))
    if device is not None:
        _move(model, device)
    return model


def _move(model: torch.nn.Module, device: torch.device | str) -> None:
    for module in model.modules():
        for name, buffer in module._buffers.items():  # noqa: SLF001  # Module.to() refuses a model with meta tensors
            if buffer is not None and not buffer.is_meta:
                module._buffers[name] = buffer.to(device)  # noqa: SLF001


def _exists(experiment: Experiment, key: str) -> bool:
    try:
        experiment.store.stat(key)
    except KeyNotFound:
        return False
    return True
