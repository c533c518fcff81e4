"""Small models and training loops that the tests of the upper layers share."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ckptstore import CheckpointManagerV2, keys


class Net(nn.Module):
    """A little of everything: convolution, batch norm (buffers), dropout (RNG), a linear head."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(torch.relu(self.norm(self.conv(x))))
        out: torch.Tensor = self.head(x.flatten(1))
        return out


class Tied(nn.Module):
    """An encoder and a decoder that share their weights, and a table that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Embedding(7, 4)
        self.decode = nn.Linear(4, 7, bias=False)
        self.decode.weight = self.encode.weight
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.scale = torch.tensor([2.0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.decode(self.encode(x) + self.table) * self.scale
        return out


class Job:
    """A training loop's objects."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = Net()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, gamma=0.5)

    def train(self, steps: int) -> Job:
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.randn(4, 1, 4, 4)).square().mean().backward()
            self.optimizer.step()
            self.scheduler.step()
        return self

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }


def checkpoint_key(manager: CheckpointManagerV2, step: int = 20) -> str:
    """Where a manager keeps the checkpoint of a step."""
    assert manager.exp_hash is not None
    return keys.checkpoint_key(manager.exp_hash, step)


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal bit for bit."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and list(left) == list(right) and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right)
