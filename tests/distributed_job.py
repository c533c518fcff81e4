"""One rank of a job of two, for the tests: prints what it saw as a line of JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ckptstore import CheckpointManagerV2, CkptStoreError, open_store
from ckptstore.testing import FaultyStore


def _model(seed: int) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def _manager(folder: Path, **options: Any) -> tuple[CheckpointManagerV2, FaultyStore]:
    counting = FaultyStore(open_store(folder / "store"))
    return CheckpointManagerV2(counting, **options), counting


def _puts(store: FaultyStore) -> int:
    return store.count("put") + store.count("create")


def save(folder: Path, rank: int, **options: Any) -> dict[str, Any]:
    """Create an experiment, save with and without a step."""
    manager, store = _manager(folder, **options)
    # what a rank passes does not matter unless it is the writer: a sampler gives each rank its own shard
    exp_hash, is_new = manager.update_experiment_hash(_model(0), {"lr": 1}, [f"sample-{rank}"])
    paths = [manager.save_model_checkpoint(_model(0), step=1), manager.save_model_checkpoint(_model(0))]
    paths += [manager.save_config({"lr": 2}), manager.save_model_architecture(_model(0))]
    distributed.barrier()
    return {"exp_hash": exp_hash, "is_new": is_new, "paths": [str(path) for path in paths], "puts": _puts(store)}


def other_writer(folder: Path, rank: int) -> dict[str, Any]:
    """Let rank 1 write."""
    return save(folder, rank, writer_rank=1)


def resume(folder: Path, rank: int) -> dict[str, Any]:
    """Save a DDP model, then resume into another one whose weights differ by rank."""
    manager, _ = _manager(folder)
    model = DistributedDataParallel(_model(0))
    manager.update_experiment_hash(model, {"lr": 1})
    manager.save_model_checkpoint(model, step=3)
    distributed.barrier()
    other = DistributedDataParallel(_model(7))
    checkpoint = manager.resume(other)
    assert checkpoint is not None
    return {
        "names": list(checkpoint["model_state_dict"]),
        "step": checkpoint["step"],
        "weights": other.module.weight.tolist(),
        "saved": model.module.weight.tolist(),
        "rank": rank,
    }


def error(folder: Path, rank: int) -> dict[str, Any]:
    """Fail on the writer: the other rank's config would have been fine."""
    manager, _ = _manager(folder)
    try:
        manager.update_experiment_hash(config={"f": print} if rank == 0 else {"f": 1})
    except CkptStoreError as raised:
        return {"error": type(raised).__name__}
    return {"error": None}


def alone(folder: Path, rank: int) -> dict[str, Any]:
    """Save on rank 0 only, as many training scripts do."""
    manager, _ = _manager(folder)
    manager.update_experiment_hash(_model(0))
    if rank == 0:
        manager.save_model_checkpoint(_model(0), step=5)
    distributed.barrier()
    return {"steps": manager.get_checkpoint_info()["steps"]}


SCENARIOS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    act.__name__: act for act in (save, resume, error, alone, other_writer)
}


def main(scenario: str, folder: str, rank: str) -> None:
    """Join the job and play one scenario."""
    rendezvous = (Path(folder) / "rendezvous").as_uri()
    distributed.init_process_group("gloo", init_method=rendezvous, rank=int(rank), world_size=2)
    outcome = SCENARIOS[scenario](Path(folder), int(rank))
    distributed.barrier()
    distributed.destroy_process_group()
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()
    if scenario == "resume":
        # DDP leaves gloo's threads behind a destroyed group; one that meets the interpreter's end aborts the process
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
