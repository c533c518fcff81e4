"""Find the objects to save or load: those given, or those in the ledger."""

from __future__ import annotations

import torch

from ckptstore.errors import LedgerError, UnsupportedModel
from ckptstore.ledgers import GLOBAL_LEDGER


def find_model(model: torch.nn.Module | None, name: str | None) -> torch.nn.Module:
    """Return the model given, or the ledger's of that name, or the only one there.

    Raises:
        LedgerError: no such name, or not exactly one to choose from.
        UnsupportedModel: what was given is no module.
        ValueError: both a model and a name were given.
    """
    if model is None:
        return GLOBAL_LEDGER.get_model(name)
    if name is not None:
        raise ValueError(f"give the model or model_name={name!r}, not both")
    if not isinstance(model, torch.nn.Module):
        raise UnsupportedModel(f"model is a {type(model).__name__}, not a torch.nn.Module")
    return model


def find_model_if_any(model: torch.nn.Module | None, name: str | None) -> torch.nn.Module | None:
    """Return as `find_model` does, or None where nothing was given and the ledger has not exactly one."""
    if model is None and name is None and len(GLOBAL_LEDGER.list_models()) != 1:
        return None
    return find_model(model, name)


def find_optimizer(
    model: torch.nn.Module | None, optimizer: torch.optim.Optimizer | None, name: str | None, *, wanted: bool
) -> torch.optim.Optimizer | None:
    """Return the optimizer given, or the ledger's of that name, or the ledger's only one for the model; else None.

    Raises:
        LedgerError: no such name, or several optimizers of this model to choose from.
        ValueError: both an optimizer and a name were given, or one of them though none is wanted.
    """
    if optimizer is not None and name is not None:
        raise ValueError(f"give the optimizer or optimizer_name={name!r}, not both")
    if not wanted:
        if optimizer is not None or name is not None:
            raise ValueError("an optimizer was given together with save_optimizer/load_optimizer=False; drop one")
        return None
    if optimizer is not None:
        return _checked(optimizer)
    if name is not None:
        return GLOBAL_LEDGER.get_optimizer(name)
    return _only_optimizer_of(model) if model is not None else None


def check_stateful(part: object, what: str) -> None:
    """Raise TypeError unless a scheduler or scaler is None or can save and load its state."""
    if part is not None and not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
        raise TypeError(
            f"{what} is a {type(part).__name__} without state_dict() and load_state_dict(); give the object"
        )


def _checked(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    if not hasattr(optimizer, "param_groups") or not hasattr(optimizer, "load_state_dict"):
        raise TypeError(f"optimizer is a {type(optimizer).__name__}, not an optimizer; give the object itself")
    return optimizer


def _only_optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer | None:
    known = GLOBAL_LEDGER.optimizers()
    own = {id(parameter) for parameter in model.parameters()} if known else set()
    fitting = {name: optimizer for name, optimizer in known.items() if _shares_parameters(optimizer, own)}
    if len(fitting) > 1:
        raise LedgerError(f"which optimizer? give optimizer_name or the object (of this model: {', '.join(fitting)})")
    return next(iter(fitting.values()), None)


def _shares_parameters(optimizer: torch.optim.Optimizer, parameter_ids: set[int]) -> bool:
    return any(id(parameter) in parameter_ids for group in optimizer.param_groups for parameter in group["params"])
