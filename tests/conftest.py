"""What every test may ask for: a bucket, a store of each kind, and a log of the requests that were made."""

from __future__ import annotations

import functools
import multiprocessing
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckptstore.store import Store, open_store
from tests.fake_gcs import FakeGCS, fake_gcs_server
from tests.gcs_xml import gcs_xml_front
from tests.seaweedfs import KEY, SECRET, SeaweedFS, seaweedfs
from tests.servers import HttpLog, S3Server, moto_server
from tests.sftp import sftp_server

if TYPE_CHECKING:
    from ckptstore import CheckpointManagerV2
    from ckptstore_backends.s3 import S3Store
    from tests.models import Job

_CLOUD_SETTINGS = ("AWS_", "GOOGLE_", "GCSFS_", "CLOUDSDK_", "STORAGE_EMULATOR_")


@pytest.fixture(scope="session", autouse=True)
def _no_cloud_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    nowhere = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(_CLOUD_SETTINGS) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch.setenv("CKPTSTORE_CACHE", str(tmp_path_factory.mktemp("cache")))  # not the developer's own
        # Fresh processes are forked from one that has these already. Not obstore, which ends a process so made.
        multiprocessing.set_forkserver_preload(["ckptstore.testing", "gcsfs", "s3fs"])
        yield


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A simulated S3, one for each test process."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def moto_url(s3_server: S3Server) -> str:
    """The endpoint of the simulated S3."""
    return s3_server.url


@pytest.fixture(scope="session")
def _botocore_reads_its_models_once() -> Iterator[None]:
    import botocore.loaders

    with pytest.MonkeyPatch.context() as patch:
        # parsing them takes 0.1 s, and every store has a session of its own
        patch.setattr(botocore.loaders, "create_loader", functools.cache(botocore.loaders.create_loader))
        yield


@pytest.fixture(scope="session")
def s3_options(moto_url: str, _botocore_reads_its_models_once: None) -> dict[str, object]:
    """Storage options that reach the simulated S3."""
    return {
        "key": "test-key",
        "secret": "test-secret",
        "endpoint_url": moto_url,
        "client_kwargs": {"region_name": "us-east-1"},
    }


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """A fresh bucket, empty."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3_server.request("PUT", name)
    return name


@pytest.fixture
def s3_url(s3_bucket: str) -> str:
    """A prefix in a fresh bucket."""
    return f"s3://{s3_bucket}/some/prefix"


@pytest.fixture
def s3_store(s3_url: str, s3_options: dict[str, object]) -> Iterator[S3Store]:
    """A store in a fresh bucket."""
    from ckptstore_backends.s3 import S3Store

    with S3Store.from_url(s3_url, **s3_options) as store:
        yield store


@pytest.fixture
def http_log(s3_server: S3Server) -> HttpLog:
    """The requests that reach the simulated S3 from now on."""
    return HttpLog(s3_server)


@pytest.fixture
def faulty_s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The simulated S3, to be told what to do wrong; well again after the test."""
    yield s3_server
    s3_server.set_faults()


@pytest.fixture(name="seaweedfs", scope="session")
def _seaweedfs() -> Iterator[SeaweedFS]:
    """A real S3, one for each test process."""
    with seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_anonymous() -> Iterator[SeaweedFS]:
    """A real S3 that asks for no signature: what the XML interface of GCS looks like to a client."""
    with seaweedfs(anonymous=True) as server:
        yield server


@pytest.fixture(scope="session")
def seaweedfs_url(seaweedfs: SeaweedFS) -> str:
    """The endpoint of the real S3."""
    return seaweedfs.url


@pytest.fixture(scope="session")
def seaweedfs_options(seaweedfs_url: str, _botocore_reads_its_models_once: None) -> dict[str, object]:
    """Storage options that reach the real S3."""
    return {
        "key": KEY,
        "secret": SECRET,
        "endpoint_url": seaweedfs_url,
        "client_kwargs": {"region_name": "us-east-1"},
    }


@pytest.fixture(scope="session")
def _seaweedfs_bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.new_bucket()


@pytest.fixture
def seaweedfs_s3_url(_seaweedfs_bucket: str) -> str:
    """A fresh prefix: the first object in a bucket costs SeaweedFS 0.2 s, and a volume."""
    return f"s3://{_seaweedfs_bucket}/{uuid.uuid4().hex}/prefix"


@pytest.fixture
def seaweedfs_store(seaweedfs_s3_url: str, seaweedfs_options: dict[str, object]) -> Iterator[S3Store]:
    """A store on the real S3."""
    from ckptstore_backends.s3 import S3Store

    with S3Store.from_url(seaweedfs_s3_url, **seaweedfs_options) as store:
        yield store


@pytest.fixture(name="fake_gcs_server", scope="session")
def _fake_gcs_server() -> Iterator[FakeGCS]:
    """A simulated Google Cloud Storage, one for each test process."""
    with fake_gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_options(fake_gcs_server: FakeGCS) -> dict[str, object]:
    """Storage options that reach the simulated GCS."""
    return {"endpoint_url": fake_gcs_server.url, "token": "anon"}


@pytest.fixture(scope="session")
def gcs_bulk_options(fake_gcs_server: FakeGCS) -> Iterator[dict[str, object]]:
    """Storage options that reach the simulated GCS through obstore for bulk, by an XML interface in front of it."""
    with gcs_xml_front(fake_gcs_server.url) as url:
        yield {"endpoint_url": url, "token": "anon", "bulk": "obstore"}


@pytest.fixture
def gcs_url(fake_gcs_server: FakeGCS) -> str:
    """A prefix in a fresh bucket."""
    return f"gs://{fake_gcs_server.new_bucket()}/some/prefix"


@pytest.fixture
def gcs_store(gcs_url: str, gcs_options: dict[str, object]) -> Iterator[Store]:
    """A store in a fresh bucket."""
    with open_store(gcs_url, **gcs_options) as store:
        yield store


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """An SFTP server: its port, and the folder that it serves."""
    served = tmp_path_factory.mktemp("sftp")
    with sftp_server(served) as port:
        yield port, served


@pytest.fixture(params=["local", "memory", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind in turn."""
    yield from _store_of(request.param, request, tmp_path)


@pytest.fixture(params=["local", "memory", "s3", "seaweedfs", "gcs"])
def every_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind, on each server, in turn."""
    yield from _store_of(request.param, request, tmp_path)


def _store_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if kind not in {"local", "memory"}:
        yield request.getfixturevalue(f"{kind}_store")
        return
    url = str(tmp_path / "store") if kind == "local" else f"memory://{uuid.uuid4().hex}"
    with open_store(url) as store:
        yield store


@pytest.fixture
def manager(any_store: Store) -> CheckpointManagerV2:
    """A manager with an experiment, in a store of each kind in turn."""
    from ckptstore import CheckpointManagerV2
    from tests.models import Net

    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    return manager


@pytest.fixture
def saved(manager: CheckpointManagerV2) -> Job:
    """Checkpoints of steps 10 and 20, and the job that made them."""
    from tests.models import Job

    job = Job()
    for step in (10, 20):
        job.train(2)
        manager.save_model_checkpoint(job.model, step=step, optimizer=job.optimizer, scheduler=job.scheduler)
    return job
