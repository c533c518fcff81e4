"""What every contender is told and does."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.states import Model, Shape, view_bytes, view_state


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


class Managed(Contender):
    """Through the manager, as a training program calls it; beside a class that says where.

    Attributes:
        place: URL and options of the store.
    """

    place: tuple[str, dict[str, Any]]

    @cached_property
    def manager(self) -> Any:
        """A manager with the state's experiment as the current one."""
        from ckptstore import CheckpointManagerV2

        url, options = self.place
        manager = CheckpointManagerV2(url, storage_options=options, save_rng=False)
        manager.update_experiment_hash(config={"shape": self.setup.shape})
        return manager

    def close(self) -> None:
        self.manager.close()
        super().close()


class ManagedSave(Managed):
    """Ours: atomic, durable, every byte under a checksum."""

    def prepare(self) -> None:
        self.model = Model(self.state)
        self.manager  # noqa: B018  # connects

    def run(self) -> object:
        return self.manager.save_model_checkpoint(self.model, step=1)

    def check(self) -> None:
        import torch

        from ckptstore import keys

        if self.setup.kept:
            whole = io.BytesIO(self.manager.store.get(keys.checkpoint_key(self.manager.exp_hash, 1)))
            same(torch.load(whole, weights_only=True)["model_state_dict"], self.state)


class ManagedLoad(Managed):
    """Ours: the checkpoint's dict, every byte of it verified."""

    def prepare(self) -> None:
        self.manager.save_model_checkpoint(Model(self.state), step=1)

    def run(self) -> dict[str, Any]:
        return self.manager.load_checkpoint(step=1)

    def check(self) -> None:
        same(self.run()["model_state_dict"], self.state)


def same_bytes(found: object, expected: memoryview) -> None:
    """Raise unless two buffers hold the same bytes."""
    if memoryview(found).cast("B") != expected.cast("B"):
        raise RuntimeError("what was moved is not what is there")


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise unless two states are equal in their values, whatever a wrapper made of their names."""
    import torch

    def bits(tensor: Any) -> Any:
        return tensor.reshape(-1).view(torch.uint8)  # random bytes hold NaNs, which equal nothing

    pairs = zip(found.values(), expected.values(), strict=True)
    if not all(torch.equal(bits(one), bits(other)) for one, other in pairs):
        raise RuntimeError("what was saved is not what is there")
