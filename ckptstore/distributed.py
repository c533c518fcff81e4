"""What a torch.distributed job needs: one rank acts, every rank learns the outcome."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TypeVar, cast

from ckptstore.errors import CkptStoreError

T = TypeVar("T")


def rank_and_world() -> tuple[int, int]:
    """Return (this rank, number of ranks); (0, 1) outside a job."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_writer(writer_rank: int) -> bool:
    """Whether this process writes: the only one there is, or the writer rank of a job."""
    rank, world = rank_and_world()
    return world == 1 or rank == writer_rank


def check_writer_rank(writer_rank: int) -> None:
    """Raise ValueError unless it is an int from 0 upwards, and a rank of the job where there is one already."""
    _, world = rank_and_world()
    if type(writer_rank) is not int or writer_rank < 0 or (world > 1 and writer_rank >= world):
        raise ValueError(f"writer_rank is {writer_rank!r}; give a rank of the job, from 0 to {max(world - 1, 0)}")


def on_writer(act: Callable[[], T], writer_rank: int) -> T:
    """Run the act on the writer rank only and return its result, or raise its error, on every rank.

    In a job this is a collective: every rank must call it. The result must be picklable.
    """
    rank, world = rank_and_world()
    if world == 1:
        return act()
    from torch import distributed

    outcome: list[tuple[T | None, Exception | None] | None] = [None]
    if rank == writer_rank:
        outcome[0] = _attempt(act)
    distributed.broadcast_object_list(outcome, src=writer_rank)
    result, error = cast("tuple[T, Exception | None]", outcome[0])
    if error is not None:
        raise error
    return result


def on_every_rank(act: Callable[[], T]) -> T:
    """Run the act on every rank and return its result; where it failed on one rank, raise on all of them.

    In a job this is a collective: without it the ranks that succeeded would wait for the others for ever.
    """
    rank, world = rank_and_world()
    if world == 1:
        return act()
    from torch import distributed

    result, error = _attempt(act)
    errors: list[Exception | None] = [None] * world
    distributed.all_gather_object(errors, error)
    first = errors[rank] or next((found for found in errors if found is not None), None)
    if first is not None:
        raise first
    return cast("T", result)


def _attempt(act: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return act(), None
    except Exception as error:  # noqa: BLE001  # handed to every rank and raised there
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  # whatever pickling it raises, the other ranks still need to hear of it
        return CkptStoreError(f"{type(error).__name__} on the writer rank: {error}")
    return error
