"""From a hash's first digits to the experiment, and from a step to the checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckptstore.checkpoints import CheckpointRecord
from ckptstore.cli.addresses import Address
from ckptstore.errors import CheckpointNotFound, UnknownExperiment
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.objects import redact
from ckptstore.store import Store

__all__ = ["chosen_checkpoint", "chosen_experiment", "chosen_experiments", "resolved"]

_SHOWN = 8


def chosen_experiments(store: Store, addresses: Iterable[Address]) -> list[Experiment]:
    """Return the experiments, in the order asked. One listing of one level.

    Raises:
        UnknownExperiment: none begins with these digits, or several do; lists them.
    """
    known = list_hashes(store)
    return [Experiment(store, resolved(address.digits, known, redact(store.url))) for address in addresses]


def chosen_experiment(store: Store, address: Address) -> Experiment:
    """Return one experiment; as `chosen_experiments`."""
    return chosen_experiments(store, [address])[0]


def resolved(digits: str, known: Sequence[str], where: str) -> str:
    """Return the only hash that begins with some digits.

    Raises:
        UnknownExperiment: there is none, or there are several.
    """
    found = [exp_hash for exp_hash in known if exp_hash.startswith(digits)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownExperiment(f"{digits} begins {len(found)} hashes in {where}: {_listed(found)}; give more digits")
    there = f"there {'is' if len(known) == 1 else 'are'} {_listed(known)}" if known else "it has no experiments"
    raise UnknownExperiment(f"no experiment in {where} begins with {digits}; {there}")


def chosen_checkpoint(experiment: Experiment, step: int | str | None) -> CheckpointRecord:
    """Return the checkpoint of a step; of the highest one for "latest" or None.

    Raises:
        CheckpointNotFound: there is none; lists the steps there are.
    """
    records = experiment.checkpoints()
    if not records:
        raise CheckpointNotFound(f"experiment {experiment.where_it_is()} has no checkpoints")
    if step is None or step == "latest":
        return records[-1]
    for record in records:
        if record.step == step:
            return record
    steps = [str(record.step) for record in records]
    raise CheckpointNotFound(f"experiment {experiment.exp_hash} has no step {step}; steps: {_listed(steps)}")


def _listed(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[: _SHOWN - 1])}, ... {names[-1]} ({len(names)} in all)"
