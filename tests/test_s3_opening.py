"""Opening an S3 store: options, addresses, secrets, and the end of a process."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from ckptstore.errors import (
    InvalidURL,
    StoreError,
)
from ckptstore.store import open_store
from ckptstore_backends.s3 import S3Store
from tests.servers import Fault, S3Server

_MIB = 1024 * 1024
_ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}


def test_an_unknown_option_is_named_at_once() -> None:
    with pytest.raises(TypeError, match="'secrets'"):
        open_store("s3://bucket", secrets="x")


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"region": "eu-west-1"}, TypeError, r"'region' for s3; write client_kwargs=\{'region_name': ...\}"),
        ({"region_name": "eu-west-1"}, TypeError, r"write client_kwargs=\{'region_name': ...\}"),
        ({"aws_access_key_id": "k"}, TypeError, "write key="),
        ({"aws_secret_access_key": "s"}, TypeError, "write secret="),
        ({"client_kwargs": {"region_nam": "x"}}, TypeError, "client_kwargs .*'region_nam'; write 'region_name'"),
        ({"client_kwargs": {"config": object()}}, TypeError, "give .*config_kwargs|config_kwargs; give"),
        ({"client_kwargs": "x"}, TypeError, "client_kwargs is a str"),
        ({"client_kwargs": {"verify": "/no/such.pem"}}, ValueError, r"client_kwargs\['verify'\] .*'/no/such.pem'"),
        ({"client_kwargs": {"endpoint_url": "h:9000"}}, InvalidURL, "write 'http://h:9000'"),
        ({"endpoint_url": "127.0.0.1:9000"}, InvalidURL, "write 'http://127.0.0.1:9000'"),
        ({"endpoint_url": "ftp://h"}, InvalidURL, "https://host:port"),
        ({"endpoint_url": 9000}, TypeError, "endpoint_url is a int"),
        ({"session": object()}, TypeError, "session is a object"),
        ({"max_concurrency": "4"}, ValueError, "max_concurrency is '4'"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency is 0"),
        ({"deadline_s": "soon"}, ValueError, "deadline_s is 'soon'"),
        ({"config_kwargs": {"s3": {"addressing_style": "pth"}}}, ValueError, "config_kwargs .*addressing style pth"),
        ({"config_kwargs": {"read_timeot": 1}}, TypeError, "config_kwargs .*'read_timeot'"),
        ({"s3_additional_kwargs": {"StorageClas": "X"}}, TypeError, "'StorageClas'; write 'StorageClass'"),
        ({"s3_additional_kwargs": {"serverSideEncryption": "X"}}, TypeError, "write 'ServerSideEncryption'"),
        ({"s3_additional_kwargs": {"unlike anything": 1}}, TypeError, "known are .*StorageClass"),
    ],
)
def test_a_mistake_in_the_options_is_named_when_the_store_is_opened(
    options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        open_store("s3://bucket", **options)


@pytest.mark.parametrize(
    ("variables", "config", "said"),
    [
        ({"AWS_ENDPOINT_URL": "127.0.0.1:9000"}, "", "AWS_ENDPOINT_URL"),
        ({"AWS_CA_BUNDLE": "/no/such.pem"}, "", "'/no/such.pem'"),
        ({}, "s3 =\n  addressing_style = pth\n", "check the options, and the profile"),
        ({"AWS_PROFILE": "absent"}, "", "no such profile"),
    ],
)
def test_a_mistake_in_the_environment_is_told_from_a_network_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], config: str, said: str
) -> None:
    (tmp_path / "config").write_text(f"[default]\nregion = us-east-1\n{config}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for how in ({}, {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}):
        with open_store("s3://bucket", key="k", secret="s", **how) as store:
            for act in (lambda: store.get("k"), lambda: list(store.list())):
                with pytest.raises(StoreError, match=said) as raised:
                    act()
                assert type(raised.value) is StoreError


def test_contradictory_options_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not both"):
        open_store("s3://bucket", key="a", username="b")


def test_caching_options_are_overruled(s3_url: str, s3_options: dict[str, Any]) -> None:
    with open_store(s3_url, **s3_options, use_listings_cache=True, skip_instance_cache=False) as store:
        assert list(store.list()) == []
        store.put("k", b"x")
        assert [info.key for info in store.list()] == ["k"]


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://user:hunter2@bucket/p", "s3://bucket/p?token=hunter2", "s3://bucket/p#hunter2",
     "s3://bucket/../other", "s3://bucket/a//b", "s3://buck et/p"],
)  # fmt: skip
def test_a_url_that_cannot_be_understood_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        open_store(url)
    assert "hunter2" not in str(raised.value)


def test_an_endpoint_with_credentials_is_refused_without_them() -> None:
    for options in (
        {"endpoint_url": "http://u:hunter2@h"},
        {"client_kwargs": {"endpoint_url": "http://u:hunter2@h"}},
    ):
        with pytest.raises(InvalidURL) as raised:
            open_store("s3://bucket", **options)
        assert "hunter2" not in str(raised.value)


def test_s3a_is_the_same_store(s3_url: str, s3_options: dict[str, Any]) -> None:
    with open_store(s3_url.replace("s3:", "s3a:"), **s3_options) as store:
        store.put("k", b"x")
        assert store.url == s3_url


def test_a_bucket_without_prefix_is_a_store(s3_bucket: str, s3_options: dict[str, Any]) -> None:
    with open_store(f"s3://{s3_bucket}/", **s3_options) as store:
        store.put("a/k", b"x")
        assert (store.url, [info.key for info in store.list()]) == (f"s3://{s3_bucket}", ["a/k"])
        assert str(store.path("a/k")) == f"s3://{s3_bucket}/a/k"


@pytest.mark.parametrize("key", ["plain", "a/b + 100% #1", "é/.hidden", "a%20b"])
def test_a_path_is_a_url_without_secrets(s3_store: S3Store, key: str) -> None:
    path = s3_store.path(key)
    assert str(path) == f"{s3_store.url}/{key}"
    assert b"test-secret" not in pickle.dumps(path)


def test_no_error_holds_a_secret(s3_url: str, moto_url: str, faulty_s3: S3Server) -> None:
    secrets = {"key": "AKIAHUNTER", "secret": "hunter-secret", "token": "hunter-token"}
    for fault in (Fault("", "refuse", times=-1, status=403, code="InvalidAccessKeyId"), Fault("x^", "lose")):
        faulty_s3.set_faults(fault)
        with S3Store.from_url(s3_url, endpoint_url=moto_url, **secrets) as store:
            with pytest.raises(StoreError) as raised:
                store.get("absent")
            said = repr(store) + str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)
            assert "hunter" not in said.lower()


def test_a_missing_s3fs_says_what_to_install() -> None:
    with patch.dict(sys.modules, {"s3fs": None}), pytest.raises(ImportError, match=r"pip install 'ckptstore\[s3\]'"):
        open_store("s3://bucket")


_SCRIPT = """
import os, sys
from ckptstore.store import open_store
url, endpoint, ending = sys.argv[1:]
store = open_store(url, key="k", secret="s", endpoint_url=endpoint, client_kwargs={"region_name": "us-east-1"})
store.put("before", b"x")
if ending == "fork":
    child = os.fork()
    if not child:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if not child:
        store.put("child", b"x")
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.put("after", b"x")
if ending == "close":
    store.close()
    store.close()
if ending == "half read":
    parts = store.get_ranges("before", [__import__("ckptstore.objects").objects.ByteRange(0)])
    next(parts)
"""


@pytest.mark.parametrize("ending", ["close", "exit", "fork", "half read"])
def test_a_process_ends_quietly(s3_url: str, moto_url: str, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", _SCRIPT, s3_url, moto_url, ending],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_store_collected_in_its_own_thread_does_not_wait_for_itself(
    s3_url: str, s3_options: dict[str, Any]
) -> None:
    store = S3Store.from_url(s3_url, **s3_options)
    store.put("k", b"x")
    thread = store._client._connection.get().thread
    held = [store]

    async def drop() -> None:
        held.clear()
        gc.collect()

    dropped = store._client.submit(drop())
    del store
    dropped.result(timeout=30)
    thread._thread.join(timeout=30)
    assert not thread._thread.is_alive()
