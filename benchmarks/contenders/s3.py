"""Ways to save to S3, and to load from it.

A saver writes under its own name. A loader reads what `prepare` put there in the form that it reads.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from benchmarks.contenders.contender import Contender, Managed, ManagedLoad, ManagedSave, same, same_bytes
from benchmarks.states import MIB, Model

KEY, SECRET, REGION = "seaweed-key", "seaweed-secret", "us-east-1"  # the stub takes any
_PART = 16 * MIB
_PARALLEL = 4


class S3Contender(Contender):
    """With clients for the bucket."""

    @property
    def uri(self) -> str:
        """Where it saves."""
        return f"s3://{self.setup.bucket}/{self.key}"

    @cached_property
    def obstore(self) -> Any:
        """A client that signs what it sends, over https all but the payload."""
        from obstore.store import S3Store

        client: Any = {"allow_http": True, "timeout": timedelta(minutes=5)}
        if self.setup.certificate:
            client["root_certificate"] = Path(self.setup.certificate).read_bytes()
        return S3Store(
            self.setup.bucket, access_key_id=KEY, secret_access_key=SECRET, endpoint=self.setup.url, region=REGION,
            unsigned_payload=bool(self.setup.certificate), client_options=client,
        )  # fmt: skip

    @cached_property
    def s3fs(self) -> Any:
        """A filesystem without caches."""
        from s3fs import S3FileSystem

        return S3FileSystem(**self.s3fs_options, use_listings_cache=False, skip_instance_cache=True)

    @property
    def s3fs_options(self) -> dict[str, Any]:
        """What s3fs has to be told."""
        trust = {"verify": self.setup.certificate} if self.setup.certificate else {}
        client = {"region_name": REGION, **trust}
        return {"key": KEY, "secret": SECRET, "endpoint_url": self.setup.url, "client_kwargs": client}

    @cached_property
    def boto3(self) -> Any:
        """A client."""
        import boto3

        return boto3.client(
            "s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, endpoint_url=self.setup.url, region_name=REGION
        )

    @cached_property
    def connector(self) -> Any:
        """The checkpoint class of s3torchconnector."""
        import os

        from s3torchconnector import S3Checkpoint, S3ClientConfig

        os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return S3Checkpoint(
            region=REGION, endpoint=self.setup.url, s3client_config=S3ClientConfig(force_path_style=True)
        )

    @property
    def place(self) -> tuple[str, dict[str, Any]]:
        """Where ours saves."""
        return f"s3://{self.setup.bucket}/ours", self.s3fs_options

    def stored(self) -> Any:
        """Return the object as a buffer, in one request."""
        import obstore

        return obstore.get(self.obstore, self.key).bytes()

    def check_saved(self) -> None:
        """Raise unless torch reads what was saved, and it is the state."""
        if self.setup.kept:
            whole = io.BytesIO(self.stored())
            same(torch.load(whole, weights_only=True)["model_state_dict"], self.state)

    def check_bytes(self) -> None:
        """Raise unless the object is the state's bytes."""
        if self.setup.kept:
            same_bytes(self.stored(), self.ready_bytes)

    def store_for_torch(self) -> None:
        """Put what torch.save makes of the state."""
        import obstore

        whole = io.BytesIO()
        torch.save({"model_state_dict": self.state}, whole)
        obstore.put(self.obstore, self.key, whole.getbuffer(), chunk_size=_PART)


class CkptstoreSave(ManagedSave, S3Contender):
    """Ours."""


class ObstoreSave(S3Contender):
    """The bytes as they are: no archive, nothing checked."""

    def prepare(self) -> None:
        self.ready_bytes  # noqa: B018  # touches them

    def run(self) -> object:
        import obstore

        return obstore.put(self.obstore, self.key, self.ready_bytes, chunk_size=_PART, max_concurrency=_PARALLEL)

    def check(self) -> None:
        self.check_bytes()


class ObstoreAndCrcSave(ObstoreSave):
    """The same, and one pass over the bytes for a CRC32: the least that a verified file costs."""

    def run(self) -> object:
        from isal.isal_zlib import crc32

        return super().run(), crc32(self.ready_bytes)


class TorchSaveS3fs(S3Contender):
    """What most people write."""

    def run(self) -> object:
        with self.s3fs.open(self.uri, "wb") as file:
            torch.save({"model_state_dict": self.state}, file)

    def check(self) -> None:
        self.check_saved()


class PipeFile(S3Contender):
    """Through memory, then s3fs."""

    def run(self) -> object:
        whole = io.BytesIO()
        torch.save({"model_state_dict": self.state}, whole)
        self.s3fs.pipe_file(self.uri, whole.getvalue())

    def check(self) -> None:
        self.check_saved()


class Boto3Save(S3Contender):
    """Through memory, then boto3's transfer manager."""

    def run(self) -> object:
        whole = io.BytesIO()
        torch.save({"model_state_dict": self.state}, whole)
        whole.seek(0)
        self.boto3.upload_fileobj(whole, self.setup.bucket, self.key)

    def check(self) -> None:
        self.check_saved()


class ConnectorSave(S3Contender):
    """AWS's own library for PyTorch."""

    def run(self) -> object:
        with self.connector.writer(self.uri) as writer:
            torch.save({"model_state_dict": self.state}, writer)

    def check(self) -> None:
        self.check_saved()


class Dcp(S3Contender):
    """torch.distributed.checkpoint, in one process."""

    def save(self) -> object:
        """Save the state."""
        from torch.distributed.checkpoint import save
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

        return save(self.state, storage_writer=FsspecWriter(self.uri, **self.s3fs_options), no_dist=True)

    def load(self) -> dict[str, Any]:
        """Load it into tensors that are there."""
        from torch.distributed.checkpoint import load
        from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader

        state = {name: torch.empty_like(tensor) for name, tensor in self.state.items()}
        load(state, storage_reader=FsspecReader(self.uri, **self.s3fs_options), no_dist=True)
        return state

    def check(self) -> None:
        if self.setup.kept:
            same(self.load(), self.state)


class DcpSave(Dcp):
    """It saves."""

    def run(self) -> object:
        return self.save()


class SocketSave(S3Contender):
    """One PUT over one socket: the wire itself."""

    def prepare(self) -> None:
        self.ready_bytes  # noqa: B018  # touches them

    def run(self) -> object:
        host = urlsplit(self.setup.url)
        connection = http.client.HTTPConnection(str(host.hostname), host.port)
        connection.putrequest("PUT", f"/{self.setup.bucket}/{self.key}")
        connection.putheader("Content-Length", str(len(self.ready_bytes)))
        connection.endheaders()
        connection.sock.sendall(self.ready_bytes)
        connection.getresponse().read()
        connection.close()

    def check(self) -> None:
        self.check_bytes()


class CkptstoreLoad(ManagedLoad, S3Contender):
    """Ours."""


class ObstoreLoad(S3Contender):
    """Parallel ranges of the bytes as they are: nothing is parsed, nothing checked."""

    part = 16 * MIB

    def prepare(self) -> None:
        import obstore

        obstore.put(self.obstore, self.key, self.ready_bytes, chunk_size=_PART)
        self.size = len(self.ready_bytes)

    def run(self) -> Any:
        import obstore

        def read(start: int) -> Any:
            return obstore.get_range(self.obstore, self.key, start=start, end=min(self.size, start + self.part))

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(read, range(0, self.size, self.part)))

    def check(self) -> None:
        same_bytes(b"".join(self.run()), self.ready_bytes)
        del self.ready_bytes


class ObstoreLoad8(ObstoreLoad):
    """In ranges of 8 MiB."""

    part = 8 * MIB


class ObstoreLoad64(ObstoreLoad):
    """In ranges of 64 MiB."""

    part = 64 * MIB


class TorchLoadS3fs(S3Contender):
    """What most people write."""

    def prepare(self) -> None:
        self.store_for_torch()

    def run(self) -> dict[str, Any]:
        with self.s3fs.open(self.uri, "rb") as file:
            return torch.load(file, weights_only=True)

    def check(self) -> None:
        same(self.run()["model_state_dict"], self.state)


class CatFile(TorchLoadS3fs):
    """Through memory."""

    def run(self) -> dict[str, Any]:
        return torch.load(io.BytesIO(self.s3fs.cat_file(self.uri)), weights_only=True)


class Boto3Load(TorchLoadS3fs):
    """Through memory, with boto3's transfer manager."""

    def run(self) -> dict[str, Any]:
        whole = io.BytesIO()
        self.boto3.download_fileobj(self.setup.bucket, self.key, whole)
        whole.seek(0)
        return torch.load(whole, weights_only=True)


class ConnectorLoad(TorchLoadS3fs):
    """AWS's own library for PyTorch."""

    def run(self) -> dict[str, Any]:
        with self.connector.reader(self.uri) as reader:
            return torch.load(reader, weights_only=True)


class DcpLoad(Dcp):
    """It loads."""

    def prepare(self) -> None:
        self.save()

    def run(self) -> dict[str, Any]:
        return self.load()


class SocketLoad(ObstoreLoad):
    """Ranges over raw sockets into one buffer: the wire itself."""

    def run(self) -> Any:
        whole = memoryview(bytearray(self.size))
        share = -(-self.size // _PARALLEL)
        threads = [
            threading.Thread(target=self._receive, args=(whole, start, min(self.size, start + share)))
            for start in range(0, self.size, share)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [whole]

    def _receive(self, whole: memoryview, start: int, stop: int) -> None:
        host = urlsplit(self.setup.url)
        with socket.create_connection((str(host.hostname), host.port or 80)) as connection:
            path = f"/{self.setup.bucket}/{self.key}"
            head = f"GET {path} HTTP/1.1\r\nHost: {host.netloc}\r\nRange: bytes={start}-{stop - 1}\r\n\r\n"
            connection.sendall(head.encode())
            answer = bytearray()
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(65536)
            body = bytes(answer).partition(b"\r\n\r\n")[2]
            whole[start : start + len(body)] = body
            at = start + len(body)
            while at < stop:
                at += connection.recv_into(whole[at:stop])


class OneTensor(Managed, S3Contender):
    """One tensor in the middle, through `open_checkpoint`."""

    def prepare(self) -> None:
        self.manager.save_model_checkpoint(Model(self.state), step=1)
        self.name = list(self.state)[self.shape.tensors // 2]
        self.expected = self.state[self.name].clone()
        self.__dict__.pop("state")

    def run(self) -> torch.Tensor:
        return self.manager.open_checkpoint(1)[self.name.replace(".", "_")]

    def check(self) -> None:
        same({"": self.run()}, {"": self.expected})


class OneTensorTorch(S3Contender):
    """One tensor in the middle, as torch.load gives it: after all the others."""

    def prepare(self) -> None:
        self.name = list(self.state)[self.shape.tensors // 2]
        self.expected = self.state[self.name].clone()
        self.store_for_torch()
        self.__dict__.pop("state")

    def run(self) -> torch.Tensor:
        with self.connector.reader(self.uri) as reader:
            return torch.load(reader, weights_only=True)["model_state_dict"][self.name]

    def check(self) -> None:
        same({"": self.run()}, {"": self.expected})


CONTENDERS = {
    "s3 save: ckptstore": CkptstoreSave,
    "s3 save: obstore, ready bytes": ObstoreSave,
    "s3 save: obstore, ready bytes + CRC32": ObstoreAndCrcSave,
    "s3 save: raw socket": SocketSave,
    "s3 save: s3torchconnector": ConnectorSave,
    "s3 save: BytesIO + boto3": Boto3Save,
    "s3 save: BytesIO + s3fs.pipe_file": PipeFile,
    "s3 save: torch.save over s3fs.open": TorchSaveS3fs,
    "s3 save: torch DCP, FsspecWriter": DcpSave,
    "s3 load: ckptstore": CkptstoreLoad,
    "s3 load: obstore, 8 MiB ranges": ObstoreLoad8,
    "s3 load: obstore, 16 MiB ranges": ObstoreLoad,
    "s3 load: obstore, 64 MiB ranges": ObstoreLoad64,
    "s3 load: raw sockets": SocketLoad,
    "s3 load: s3torchconnector": ConnectorLoad,
    "s3 load: boto3 + BytesIO": Boto3Load,
    "s3 load: s3fs.cat_file": CatFile,
    "s3 load: torch.load over s3fs.open": TorchLoadS3fs,
    "s3 load: torch DCP, FsspecReader": DcpLoad,
    "s3 tensor: ckptstore": OneTensor,
    "s3 tensor: s3torchconnector": OneTensorTorch,
}
