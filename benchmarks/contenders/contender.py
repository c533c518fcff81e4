"""What every contender is told and does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.states import Shape, view_bytes, view_state


@dataclass(frozen=True)
class Setup:
    """One contender's place in a comparison.

    Attributes:
        contender: its name in the registry.
        shape: name of the state's shape.
        data: file of random bytes that the state views.
        folder: an empty folder on the disk that is measured.
        url: endpoint of the server, "" for the disk.
        bucket: on that server.
        kept: False where the server throws away what it is sent, so that nothing can be checked.
        certificate: file of the certificate to trust, "" for plain http.
    """

    contender: str
    shape: str
    data: str
    folder: str
    url: str = ""
    bucket: str = "bucket"
    kept: bool = True
    certificate: str = ""


class Contender:
    """One way to save or load a state."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.shape = Shape.named(setup.shape)
        self.key = "-".join(re.findall("[a-z0-9]+", setup.contender.lower()))

    @cached_property
    def state(self) -> dict[str, Any]:
        """The state as tensors."""
        return view_state(Path(self.setup.data), self.shape)

    @cached_property
    def ready_bytes(self) -> memoryview:
        """The state's bytes in one piece."""
        return view_bytes(Path(self.setup.data))

    def prepare(self) -> None:
        """Do what is not measured, once."""

    def before(self) -> None:
        """Do what is not measured, before each round."""

    def run(self) -> object:
        """Do what is measured; what it returns is held until memory was read."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise unless the first, unmeasured round did what it should."""

    def close(self) -> None:
        """Clean up."""


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise unless two states are equal in their values, whatever a wrapper made of their names."""
    import torch

    def bits(tensor: Any) -> Any:
        return tensor.reshape(-1).view(torch.uint8)  # random bytes hold NaNs, which equal nothing

    pairs = zip(found.values(), expected.values(), strict=True)
    if not all(torch.equal(bits(one), bits(other)) for one, other in pairs):
        raise RuntimeError("what was saved is not what is there")
