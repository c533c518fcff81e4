"""Opening a GCS store: addresses, options, credentials, and what is said when they will not do."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ckptstore.errors import AccessDenied, InvalidURL, MissingDependency, StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore.store import open_store
from ckptstore_backends import _gcs_credentials
from ckptstore_backends.gcs import GCSStore
from tests.fake_gcs import FakeGCS
from tests.proxy import Answer, Proxy, proxy_to

_MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_google_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))


class _Issuer(ThreadingHTTPServer):
    """Issues access tokens that are past their end at once, numbered; or refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _IssuerHandler)
        self.issued = 0
        self.refuses = False
        self.url = f"http://127.0.0.1:{self.server_port}/token"


class _IssuerHandler(BaseHTTPRequestHandler):
    server: _Issuer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.issued += 1
        token = {"access_token": f"token-{self.server.issued}", "expires_in": 0, "token_type": "Bearer"}
        body = json.dumps({"error": "invalid_grant"} if self.server.refuses else token).encode()
        self.send_response(400 if self.server.refuses else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def issuer() -> Iterator[_Issuer]:
    with _Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


@pytest.fixture
def account(issuer: _Issuer, private_key: str) -> dict[str, str]:
    """What is in the key file of a service account."""
    return {
        "type": "service_account",
        "project_id": "project",
        "client_email": "account@example.com",
        "private_key": private_key,
        "private_key_id": "id",
        "token_uri": issuer.url,
    }


def _bearers(proxy: Proxy) -> list[str]:
    return [request.header("authorization") for request in proxy.requests]


def test_a_token_is_renewed_before_its_end_request_by_request(
    account: dict[str, str], issuer: _Issuer, fake_gcs_server: FakeGCS
) -> None:
    with (
        proxy_to(fake_gcs_server.url) as proxy,
        GCSStore(fake_gcs_server.new_bucket(), endpoint_url=proxy.url, token=account) as store,
    ):
        for i in range(10):
            store.put(f"k{i}", b"x")
        assert issuer.issued == 10
        assert _bearers(proxy) == [f"Bearer token-{i}" for i in range(1, 11)]


def test_obstore_is_lent_the_tokens_and_gets_new_ones(
    account: dict[str, str], issuer: _Issuer, fake_gcs_server: FakeGCS, gcs_bulk_options: dict[str, Any]
) -> None:
    with (
        proxy_to(str(gcs_bulk_options["endpoint_url"])) as proxy,
        GCSStore(fake_gcs_server.new_bucket(), endpoint_url=proxy.url, token=account, bulk="obstore") as store,
    ):
        store.put("k", iter([b"x" * _MIB] * 20))
        for start in range(10):
            list(store.get_ranges("k", [ByteRange(start * _MIB, 10)]))
        bearers = _bearers(proxy)
    assert all(bearer.startswith("Bearer token-") for bearer in bearers)
    assert len(set(bearers)) > 1


def test_a_key_file_is_a_token(account: dict[str, str], tmp_path: Path, fake_gcs_server: FakeGCS) -> None:
    (tmp_path / "key.json").write_text(json.dumps(account))
    options: dict[str, Any] = {"endpoint_url": fake_gcs_server.url, "token": str(tmp_path / "key.json")}
    with GCSStore(fake_gcs_server.new_bucket(), **options) as store:
        assert store.put("k", b"x").size_bytes == 1


def test_application_default_credentials_are_found(
    account: dict[str, str], tmp_path: Path, fake_gcs_server: FakeGCS, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=fake_gcs_server.url, project="another") as store:
        assert store.put("k", b"x").size_bytes == 1
        assert not store._client.tokens.anonymous


@pytest.mark.parametrize("bulk", ["gcsfs", "obstore"])
def test_an_account_that_is_refused_a_token_is_denied(
    account: dict[str, str], issuer: _Issuer, fake_gcs_server: FakeGCS, bulk: str
) -> None:
    issuer.refuses = True
    options: dict[str, Any] = {"endpoint_url": fake_gcs_server.url, "token": account, "bulk": bulk}
    with GCSStore(fake_gcs_server.new_bucket(), **options) as store:
        for act in (lambda: store.get("k"), lambda: store.put("k", b"x" * (5 * _MIB))):
            with pytest.raises(AccessDenied, match=r"no usable credentials .* set GOOGLE_APPLICATION_CREDENTIALS"):
                act()


@pytest.mark.parametrize("bulk", ["gcsfs", "obstore"])
@pytest.mark.parametrize(("status", "reason"), [(401, "authError"), (403, "forbidden")])
def test_a_token_that_the_store_refuses_is_denied_at_once(
    account: dict[str, str], fake_gcs_server: FakeGCS, bulk: str, status: int, reason: str
) -> None:
    with (
        proxy_to(fake_gcs_server.url) as proxy,
        GCSStore("bucket", endpoint_url=proxy.url, token=account, bulk=bulk) as store,
    ):
        proxy.faults = [Answer(status, reason, nth=None)]
        for act in (lambda: store.get("k"), lambda: store.put("k", b"x" * (5 * _MIB)), lambda: store.stat("k")):
            with pytest.raises(AccessDenied, match=f"HTTP {status}") as raised:
                act()
            assert "token-" not in str(raised.value)
            assert account["private_key"][40:60] not in str(raised.value)
        assert len(proxy.requests) == 3


def test_an_unusable_token_is_denied_without_being_shown() -> None:
    with (
        GCSStore("bucket", token={"refresh_token": "secret-text"}) as store,
        pytest.raises(AccessDenied, match="pass token=") as raised,
    ):
        store.get("k")
    assert "secret-text" not in str(raised.value)


class _Metadata(BaseHTTPRequestHandler):
    """What google-auth asks of the metadata server of Google Cloud."""

    def do_GET(self) -> None:
        answers = {"/": "", "project/project-id": "mine"}
        kind = "text/plain" if self.path.endswith(tuple(answers)) else "application/json"
        if kind == "application/json":
            token = {"access_token": "of-the-machine", "expires_in": 3600, "token_type": "Bearer"}
            text = json.dumps({"email": "machine@example.com", "scopes": ["x"], "aliases": [], **token})
        else:
            text = next(text for end, text in answers.items() if self.path.endswith(end))
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


def test_the_credentials_of_a_machine_of_google_are_found(
    fake_gcs_server: FakeGCS, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as metadata, proxy_to(fake_gcs_server.url) as proxy:
        threading.Thread(target=metadata.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        address = f"127.0.0.1:{metadata.server_port}"
        monkeypatch.setenv("GCE_METADATA_IP", address)
        monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", address)  # read at import
        with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=proxy.url) as store:
            store.put("k", b"x")
        metadata.shutdown()
        assert _bearers(proxy) == ["Bearer of-the-machine"]


def test_google_is_not_asked_for_credentials_where_nothing_says_that_there_are_any(
    fake_gcs_server: FakeGCS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCE_METADATA_IP", "127.0.0.1:9")
    monkeypatch.setattr("google.auth.default", lambda **_: pytest.fail("google-auth would take 12 s"))
    with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=fake_gcs_server.url) as store:
        store.put("k", b"x")
        assert store._client.tokens.anonymous


def test_a_search_for_credentials_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gcs_credentials, "SEARCH_LIMIT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
        with GCSStore("bucket") as store, pytest.raises(AccessDenied, match=r"within 0 s.*NO_GCE_CHECK"):
            store.get("k")


def test_a_token_cannot_be_checked_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with (
        GCSStore("bucket", token="ya29.raw") as store,
        pytest.raises(StoreUnavailable, match="FETCH_RAW_TOKEN") as raised,
    ):
        store.get("k")
    assert "ya29" not in str(raised.value)


def test_a_raw_token_that_is_not_checked_is_sent(fake_gcs_server: FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")
    with (
        proxy_to(fake_gcs_server.url) as proxy,
        GCSStore(fake_gcs_server.new_bucket(), endpoint_url=proxy.url, token="ya29.raw") as store,
    ):
        store.put("k", b"x")
        assert _bearers(proxy) == ["Bearer ya29.raw"]


def test_the_payer_is_named_in_every_request(fake_gcs_server: FakeGCS) -> None:
    options: dict[str, Any] = {"token": "ya29.raw", "project": "mine", "requester_pays": True}
    with proxy_to(fake_gcs_server.url) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FETCH_RAW_TOKEN_EXPIRY", "false")
        with GCSStore(fake_gcs_server.new_bucket(), endpoint_url=proxy.url, **options) as store:
            store.put("a", b"x")
            store.delete(["a", "b"])
        assert "userProject=mine" in proxy.requests[0].start
        assert proxy.requests[1].body.count(b"?userProject=mine HTTP/1.1") == 2


@pytest.mark.parametrize("scheme", ["gs", "gcs"])
def test_both_schemes_open_it(scheme: str) -> None:
    with open_store(f"{scheme}://bucket/some/prefix", token="anon") as store:
        assert isinstance(store, GCSStore)
        assert store.url == "gs://bucket/some/prefix"
        assert str(store.path("k")) == "gs://bucket/some/prefix/k"


@pytest.mark.parametrize(
    "url",
    ["gs://", "gs:///x", "gs://user:secret@bucket/x", "gs://bucket/x?token=secret", "gs://bucket/a#secret",
     "gs://Bucket/x", "gs://a/x", "gs://bucket/a//b", "gs://bucket/../x"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        open_store(url, token="anon")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"tokken": "anon"}, TypeError, "tokken"),
        ({"asynchronous": True}, TypeError, "asynchronous"),
        ({"bulk": "boto"}, ValueError, "bulk='boto' is none of obstore, gcsfs"),
        ({"access": "all"}, ValueError, "access='all'"),
        ({"token": "anon", "requester_pays": True}, ValueError, "account to bill"),
        ({"token": "/absent/key.json"}, ValueError, "/absent/key.json"),
        ({"endpoint_url": "http://me:secret@host"}, InvalidURL, "holds credentials"),
        ({"endpoint_url": "http://host/path"}, InvalidURL, "https://host:port"),
        ({"endpoint_url": "host:80"}, InvalidURL, "https://host:port"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_once(
    options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as raised:
        GCSStore("bucket", **options)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, "obstore"),
        ({"token": "anon", "requester_pays": False, "project": "p"}, {}, "obstore"),
        ({"endpoint_url": "http://127.0.0.1:1"}, {}, "gcsfs"),
        ({"endpoint_url": "http://127.0.0.1:1", "bulk": "obstore"}, {}, "obstore"),
        ({"endpoint_url": "https://storage-mine.p.googleapis.com"}, {}, "obstore"),
        ({"session_kwargs": {"trust_env": True}}, {}, "gcsfs"),
        ({"bulk": "gcsfs"}, {}, "gcsfs"),
        ({}, {"STORAGE_EMULATOR_HOST": "127.0.0.1:1"}, "gcsfs"),
        ({}, {"GOOGLE_SERVICE_ACCOUNT": "account@example.com"}, "gcsfs"),
    ],
)
def test_what_moves_the_bytes_follows_from_the_settings_and_is_said(
    options: dict[str, Any], environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with GCSStore("bucket", **options) as store:
        assert store.capabilities.transfer == expected
        assert store.capabilities.atomic_create


@pytest.mark.parametrize(
    ("absent", "options"), [("google_crc32c", {}), ("obstore", {"bulk": "obstore"})], ids=["checksum", "obstore"]
)
def test_a_package_that_is_needed_and_absent_is_named_when_the_store_is_opened(
    absent: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingDependency, match=rf"needs {absent.replace('_', '-')}; .*'ckptstore\[gcs\]'"):
        GCSStore("bucket", **options)


def test_without_obstore_bytes_move_through_gcsfs_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with GCSStore("bucket") as store:
        assert store.capabilities.transfer == "gcsfs"
        assert any("obstore is not installed" in limit for limit in store.capabilities.limits)


def test_the_environment_of_others_is_left_alone() -> None:
    before = dict(os.environ)
    with GCSStore("bucket", token="anon") as store:
        assert store.capabilities.durable
    assert dict(os.environ) == before
