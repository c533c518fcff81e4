"""The random number generators' state as plain data, and back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def capture_rng() -> dict[str, Any]:
    """Return the state of Python's, numpy's global and torch's generators; CUDA's where CUDA is in use.

    Generators that the program made itself (``torch.Generator()``, ``numpy.random.default_rng()``) are the program's
    own to save, as metadata.
    """
    version, words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": _plain(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Set the generators to a captured state; a GPU that is not there any more is passed over.

    Raises:
        ValueError, TypeError, RuntimeError: the state is not one that `capture_rng` returned.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(_arrays(state["numpy"]))
    torch.set_rng_state(state["torch"].cpu())
    for device in range(min(len(state.get("cuda", ())), torch.cuda.device_count())):
        torch.cuda.set_rng_state(state["cuda"][device].cpu(), device)


def _plain(state: Any) -> Any:
    """Return numpy's state, whichever bit generator it is of, with lists for arrays."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


def _arrays(state: Mapping[str, Any]) -> dict[str, Any]:
    inner = {name: np.array(v, dtype=np.uint64) if isinstance(v, list) else v for name, v in state["state"].items()}
    return {**state, "state": inner}
