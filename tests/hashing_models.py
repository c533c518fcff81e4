"""Models whose hashes the tests know, and a way to make a model from text."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_numbers = itertools.count()


class TwoLayers(nn.Module):
    """A model with a helper method, a plain argument and a counter."""

    offset: torch.Tensor

    def __init__(self, width: int = 4, scale: float = 2.0, calls: int = 0) -> None:
        super().__init__()
        self.width = width
        self.scale = scale
        self.calls = calls
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 2)
        self.register_buffer("offset", torch.zeros(width), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Run both layers."""
        self.calls += 1
        return self.second(self.activate(self.first(inputs)))  # type: ignore[no-any-return]

    def activate(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.relu(hidden) * self.scale


class Tied(nn.Module):
    """An embedding and a head, of one weight if tied."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


def model_from(folder: Path, text: str) -> nn.Module:
    """Return an instance of the class Net that a Python file with that text defines."""
    path = folder / f"net_{next(_numbers)}.py"
    path.write_text("import torch\nfrom torch import nn\n" + textwrap.dedent(text))
    return import_file(path, path.stem).Net()  # type: ignore[no-any-return]


def import_file(path: Path, name: str) -> Any:
    """Import a file under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
