"""Where the keys of an S3 store come from, and that they are renewed for as long as a run lasts."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.utils import ContainerMetadataFetcher

from ckptstore.errors import AccessDenied, StoreError
from ckptstore_backends import _s3_credentials
from ckptstore_backends.s3 import S3Store
from tests.servers import HttpLog, Request

_MIB = 1024 * 1024
_LIFETIME = timedelta(seconds=30)
_THROUGH_S3FS = {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}


class Issuer:
    """Hands out temporary keys over HTTP, as a container's agent does: a new one for every call.

    Attributes:
        expires: when each key that was issued ends, by its id.
        broken: whether it refuses.
    """

    def __init__(self) -> None:
        self.expires: dict[str, datetime] = {}
        self.broken = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"{}" if issuer.broken else json.dumps(issuer.issue()).encode()
                self.send_response(500 if issuer.broken else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def issue(self) -> dict[str, str]:
        key = f"KEY{len(self.expires):04d}"
        self.expires[key] = datetime.now(UTC) + _LIFETIME
        ends = self.expires[key].strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"AccessKeyId": key, "SecretAccessKey": f"hunter-{key}", "Token": f"token-{key}", "Expiration": ends}


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    issuer = Issuer()
    thread = threading.Thread(target=issuer.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)  # between botocore's attempts to get a key
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{issuer.server.server_port}/keys")
    yield issuer
    issuer.server.shutdown()
    thread.join()
    issuer.server.server_close()


def _key_of(request: Request) -> str:
    found = re.search(r"Credential=(\w+)/", request.headers["AUTHORIZATION"])
    assert found is not None
    return found[1]


def _signed_at(request: Request) -> datetime:
    return datetime.strptime(request.headers["X_AMZ_DATE"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("how", [{}, _THROUGH_S3FS])
def test_keys_that_live_for_seconds_are_renewed_through_a_long_run(
    s3_url: str,
    moto_url: str,
    issuer: Issuer,
    http_log: HttpLog,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, Any],
) -> None:
    """Two hours are ten rotations of keys here: every key is on its last seconds as soon as it was issued."""
    monkeypatch.setattr(_s3_credentials, "_ASKED_AGAIN_AFTER", timedelta(0))
    with S3Store.from_url(s3_url, endpoint_url=moto_url, **how) as store:
        for step in range(10):
            store.put(f"step {step}", b"x")
            assert bytes(store.get(f"step {step}")) == b"x"
        store.put("large", iter([bytes(6 * _MIB)] * 4))
        assert len(list(store.list())) == 11
        store.delete(["large"])
    used = {_key_of(request) for request in http_log.requests}
    assert len(used) >= 10
    assert all(_signed_at(request) < issuer.expires[_key_of(request)] for request in http_log.requests)
    assert all(request.headers["X_AMZ_SECURITY_TOKEN"].endswith(_key_of(request)) for request in http_log.requests)


def test_keys_that_cannot_be_renewed_are_denied_with_what_to_set(s3_url: str, moto_url: str, issuer: Issuer) -> None:
    issuer.broken = True
    with S3Store.from_url(s3_url, endpoint_url=moto_url) as store:
        with pytest.raises(AccessDenied, match=r"set key= and secret=") as raised:
            store.put("k", b"x")
        assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("how", [{}, _THROUGH_S3FS])
def test_keys_that_cannot_be_renewed_in_the_middle_of_a_run_are_denied(
    s3_url: str, moto_url: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]
) -> None:
    monkeypatch.setattr(_s3_credentials, "_ASKED_AGAIN_AFTER", timedelta(0))
    with S3Store.from_url(s3_url, endpoint_url=moto_url, **how) as store:
        store.put("k", b"x")
        issuer.broken = True
        for act in (
            lambda: store.put("k", b"y"),
            lambda: store.get("k"),
            lambda: store.put("new", b"", overwrite=False),
        ):
            with pytest.raises(AccessDenied, match="no usable credentials") as raised:
                act()
            assert "hunter" not in str(raised.value) + str(raised.value.__cause__)


def test_a_profile_brings_its_keys_its_region_and_its_endpoint(
    s3_url: str, moto_url: str, http_log: HttpLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "keys.py"
    keys = {"Version": 1, "AccessKeyId": "FROMPROGRAM", "SecretAccessKey": "s"}
    program.write_text(f"print('''{json.dumps(keys)}''')")
    config = tmp_path / "config"
    config.write_text(
        f"[profile job]\nregion = eu-west-3\nendpoint_url = {moto_url}\n"
        f"credential_process = {sys.executable} {program}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with S3Store.from_url(s3_url, profile="job") as store:
        store.put("k", b"x")
    (request,) = http_log.requests
    assert _key_of(request) == "FROMPROGRAM"
    assert "/eu-west-3/s3/" in request.headers["AUTHORIZATION"]


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_environment_brings_keys_region_and_endpoint(
    s3_url: str, moto_url: str, http_log: HttpLog, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings = {"AWS_ACCESS_KEY_ID": "FROMENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-west-1"}
    for variable, value in {**settings, name: moto_url}.items():
        monkeypatch.setenv(variable, value)
    with S3Store.from_url(s3_url) as store:
        store.put("k", b"x")
        assert store.capabilities.transfer == "obstore"
    (request,) = http_log.requests
    assert "FROMENV" in request.headers["AUTHORIZATION"]
    assert "/us-west-1/s3/" in request.headers["AUTHORIZATION"]


def test_options_win_over_the_environment(
    s3_url: str, s3_options: dict[str, Any], http_log: HttpLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(variable, "FROMENV")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with S3Store.from_url(s3_url, **s3_options) as store:
        store.put("k", b"x")
    (request,) = http_log.requests
    assert f"Credential={s3_options['key']}/" in request.headers["AUTHORIZATION"]
    assert "FROMENV" not in str(request.headers)


def test_an_anonymous_store_signs_nothing(s3_url: str, moto_url: str, http_log: HttpLog) -> None:
    with S3Store.from_url(s3_url, anon=True, endpoint_url=moto_url) as store:
        with pytest.raises(StoreError):
            store.get("k")
        assert store.capabilities.transfer == "obstore"
    assert all("AUTHORIZATION" not in request.headers for request in http_log.requests)
