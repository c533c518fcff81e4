"""Ways to save to GCS, and to load from it, on an emulator that keeps everything in memory."""

from __future__ import annotations

import io
from functools import cached_property
from typing import Any

import torch

from benchmarks.contenders.contender import Contender, ManagedLoad, ManagedSave, same


class GcsContender(Contender):
    """With clients for the bucket."""

    @property
    def uri(self) -> str:
        """Where it saves."""
        return f"gs://{self.setup.bucket}/{self.key}"

    @property
    def options(self) -> dict[str, Any]:
        """What gcsfs has to be told."""
        return {"endpoint_url": self.setup.url, "token": "anon"}

    @cached_property
    def gcsfs(self) -> Any:
        """A filesystem without caches."""
        from gcsfs import GCSFileSystem

        return GCSFileSystem(**self.options, use_listings_cache=False, skip_instance_cache=True)

    @property
    def place(self) -> tuple[str, dict[str, Any]]:
        """Where ours saves."""
        return f"gs://{self.setup.bucket}/ours", self.options


class CkptstoreSave(ManagedSave, GcsContender):
    """Ours."""


class TorchSaveGcsfs(GcsContender):
    """What most people write."""

    def run(self) -> object:
        with self.gcsfs.open(self.uri, "wb") as file:
            torch.save({"model_state_dict": self.state}, file)

    def check(self) -> None:
        whole = io.BytesIO(self.gcsfs.cat_file(self.uri))
        same(torch.load(whole, weights_only=True)["model_state_dict"], self.state)


class PipeFile(TorchSaveGcsfs):
    """Through memory."""

    def run(self) -> object:
        whole = io.BytesIO()
        torch.save({"model_state_dict": self.state}, whole)
        self.gcsfs.pipe_file(self.uri, whole.getvalue())


class CkptstoreLoad(ManagedLoad, GcsContender):
    """Ours."""


class TorchLoadGcsfs(GcsContender):
    """What most people write."""

    def prepare(self) -> None:
        whole = io.BytesIO()
        torch.save({"model_state_dict": self.state}, whole)
        self.gcsfs.pipe_file(self.uri, whole.getvalue())

    def run(self) -> dict[str, Any]:
        with self.gcsfs.open(self.uri, "rb") as file:
            return torch.load(file, weights_only=True)

    def check(self) -> None:
        same(self.run()["model_state_dict"], self.state)


class CatFile(TorchLoadGcsfs):
    """Through memory."""

    def run(self) -> dict[str, Any]:
        return torch.load(io.BytesIO(self.gcsfs.cat_file(self.uri)), weights_only=True)


CONTENDERS = {
    "gcs save: ckptstore": CkptstoreSave,
    "gcs save: torch.save over gcsfs.open": TorchSaveGcsfs,
    "gcs save: BytesIO + gcsfs.pipe_file": PipeFile,
    "gcs load: ckptstore": CkptstoreLoad,
    "gcs load: torch.load over gcsfs.open": TorchLoadGcsfs,
    "gcs load: gcsfs.cat_file": CatFile,
}
