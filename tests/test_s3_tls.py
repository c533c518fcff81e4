"""S3 over https, where the authority is one of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckptstore.errors import StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore_backends.s3 import S3Store
from tests.seaweedfs import SeaweedFS
from tests.tls import Certificates, certificates_for_loopback, tls_in_front_of

_LARGE = bytes(range(256)) * 2**17  # 32 MiB: two parts
_THROUGH_S3FS = {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}  # which obstore cannot give

either_engine = pytest.mark.parametrize("how", [{}, _THROUGH_S3FS], ids=["obstore", "s3fs"])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates_for_loopback(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def over_tls(
    seaweedfs: SeaweedFS, seaweedfs_options: dict[str, Any], certificates: Certificates
) -> Iterator[dict[str, Any]]:
    with tls_in_front_of(seaweedfs.url, certificates) as url:
        yield {**seaweedfs_options, "endpoint_url": url}


@either_engine
def test_a_server_of_ones_own_authority_is_spoken_to(
    seaweedfs_s3_url: str, over_tls: dict[str, Any], certificates: Certificates, how: dict[str, Any]
) -> None:
    trusting = {
        **over_tls,
        **how,
        "client_kwargs": {"region_name": "us-east-1", "verify": str(certificates.authority)},
    }
    with S3Store.from_url(seaweedfs_s3_url, **trusting) as store:
        store.put("small", b"some bytes")
        store.put("large", _LARGE)
        assert bytes(store.get("small")) == b"some bytes"
        assert bytes(store.get("large")) == _LARGE
        assert [bytes(part) for part in store.get_ranges("large", [ByteRange(-3)])] == [_LARGE[-3:]]
        assert [info.key for info in store.list()] == ["large", "small"]


@either_engine
def test_an_unknown_authority_is_named_at_once_and_what_to_set(
    seaweedfs_s3_url: str, over_tls: dict[str, Any], how: dict[str, Any]
) -> None:
    with S3Store.from_url(seaweedfs_s3_url, **{**over_tls, **how}) as store:
        for act in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: list(store.list())):
            with pytest.raises(StoreUnavailable, match=r"certificate of 127\.0\.0\.1 is not trusted .*AWS_CA_BUNDLE"):
                act()


def test_a_file_of_authorities_that_is_not_there_is_named_when_the_store_is_opened(
    seaweedfs_s3_url: str, over_tls: dict[str, Any], tmp_path: Path
) -> None:
    lost = {**over_tls, "client_kwargs": {"region_name": "us-east-1", "verify": str(tmp_path / "lost.pem")}}
    with pytest.raises(
        ValueError, match=r"client_kwargs\['verify'\] names the file .*lost\.pem', which does not exist"
    ):
        S3Store.from_url(seaweedfs_s3_url, **lost)


def test_a_file_of_authorities_that_holds_none_is_named(
    seaweedfs_s3_url: str, over_tls: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "no.pem").write_text("not a certificate")
    options = {**over_tls, "client_kwargs": {"region_name": "us-east-1", "verify": str(tmp_path / "no.pem")}}
    with (
        S3Store.from_url(seaweedfs_s3_url, **options) as store,
        pytest.raises(StoreUnavailable, match=r"no\.pem' cannot be read .*AWS_CA_BUNDLE"),
    ):
        store.get("k")
