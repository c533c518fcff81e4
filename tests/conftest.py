"""What every test may ask for: a bucket, a store of each kind, and a log of the requests that were made."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckptstore.store import Store, open_store
from tests.servers import HttpLog, S3Server, moto_server

if TYPE_CHECKING:
    from ckptstore_backends.s3 import S3Store


@pytest.fixture(scope="session", autouse=True)
def _no_cloud_settings_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    nowhere = tmp_path_factory.mktemp("aws")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
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


@pytest.fixture(params=["local", "memory", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind in turn."""
    if request.param == "s3":
        yield request.getfixturevalue("s3_store")
        return
    url = str(tmp_path / "store") if request.param == "local" else f"memory://{uuid.uuid4().hex}"
    with open_store(url) as store:
        yield store
