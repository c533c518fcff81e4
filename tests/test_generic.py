"""What the generic backend adds to the contract: ways to publish, what it refuses, what it says of errors."""

from __future__ import annotations

import errno
import ftplib
import socket
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    InvalidURL,
    KeyNotFound,
    MissingDependency,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnknownBackend,
    UnsupportedOperation,
)
from ckptstore.store import open_store
from ckptstore_backends import _generic_publish
from ckptstore_backends._generic_errors import translated
from ckptstore_backends._generic_info import info_of
from ckptstore_backends.generic import GenericStore
from tests.aliases import Disk, Ledger, Page, Strict
from tests.sftp import sftp_options


def _drafts(folder):
    return [path.name for path in folder.rglob(".ckptstore-*")]


def test_a_scheme_that_has_no_backend_of_its_own_is_opened_by_it(tmp_path):
    store = open_store(f"{Disk.protocol}://{tmp_path}/x/")
    assert type(store) is GenericStore
    assert store.url == f"disk://{tmp_path}/x"
    assert repr(store) == f"GenericStore('disk://{tmp_path}/x')"


def test_an_unknown_scheme_lists_the_known_ones_and_hides_credentials():
    with pytest.raises(UnknownBackend) as raised:
        open_store("nosuch://name:SECRET@container/x?sig=SECRET")
    said = str(raised.value)
    assert "'nosuch' in 'nosuch://container/x'" in said
    assert {"az", "file", "gs", "memory", "s3", "sftp"} <= set(said.partition("known: ")[2].split(")")[0].split(", "))
    assert "SECRET" not in said


def test_a_filesystem_that_is_not_installed_says_what_to_install():
    with pytest.raises(MissingDependency, match="'az' is not installed: Install adlfs"):
        open_store("az://container/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sftp://user:SECRET@host/x", "username="),
        ("sftp://host/x?sig=SECRET", "pass options by name"),
        ("sftp://host/x#SECRET", "pass options by name"),
        ("sftp://host/a/../b", "place of a store"),
        ("sftp://", "names no place"),
        ("zip://x", "view of another filesystem"),
        ("simplecache::s3://bucket/x", "chain of filesystems"),
        ("local:///x", "write file://"),
    ],
)
def test_a_url_that_cannot_be_a_place_is_refused(url, said):
    with pytest.raises(InvalidURL, match=said) as raised:
        open_store(url)
    assert "SECRET" not in str(raised.value)


def test_an_option_without_a_parameter_is_a_type_error(monkeypatch):
    monkeypatch.setattr(Disk, "__init__", lambda self, auto_mkdir=False: None)
    with pytest.raises(TypeError, match=r"'nosuch'.*auto_mkdir"):
        open_store("disk:///x", nosuch=1)


def test_opening_touches_nothing(tmp_path):
    open_store(f"disk://{tmp_path}/x").capabilities  # noqa: B018  # that it asks nobody
    open_store("sftp://192.0.2.1/x").capabilities  # noqa: B018  # an address that nobody has
    assert list(tmp_path.iterdir()) == []


def test_without_your_word_creates_are_refused(tmp_path):
    store = GenericStore(f"disk://{tmp_path}")
    assert not store.capabilities.atomic_create
    assert any("sole_writer=True" in limit for limit in store.capabilities.limits)
    with pytest.raises(UnsupportedOperation):
        store.put("k", b"x", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_filesystem_that_can_neither_rename_nor_send_whole_is_read_only(tmp_path):
    (tmp_path / "k").write_bytes(b"data")
    store = GenericStore(f"{Page.protocol}://{tmp_path}", sole_writer=True)
    assert bytes(store.get("k")) == b"data"
    assert "read-only" in store.capabilities.transfer
    with pytest.raises(UnsupportedOperation, match="neither rename"):
        store.put("k", b"other")
    assert (tmp_path / "k").read_bytes() == b"data"


def test_a_web_page_is_read_only():
    assert "read-only" in GenericStore("https://host/folder").capabilities.transfer


def test_the_draft_of_a_dead_writer_is_listed_and_removed(tmp_path):
    store = GenericStore(f"disk://{tmp_path}")

    def killed():
        yield b"x" * 100
        (tmp_path / "a" / "copy").write_bytes(b"")
        [draft] = _drafts(tmp_path)
        (tmp_path / "a" / draft).rename(tmp_path / "kept")
        (tmp_path / "kept-name").write_text(draft)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put("a/k", killed())
    assert _drafts(tmp_path) == []
    (tmp_path / "kept").rename(tmp_path / "a" / (tmp_path / "kept-name").read_text())
    [upload] = store.list_uploads("a/")
    assert upload.key == "a/k"
    assert abs((upload.started - datetime.now(UTC)).total_seconds()) < 600
    store.abort_upload(upload)
    store.abort_upload(upload)
    assert list(store.list_uploads()) == []


def test_a_server_that_cannot_rename_onto_a_file_still_replaces(tmp_path):
    store = GenericStore(f"{Strict.protocol}://{tmp_path}")
    store.put("a/k", b"old")
    assert store.put("a/k", b"newer").size_bytes == 5
    assert (tmp_path / "a/k").read_bytes() == b"newer"
    assert _drafts(tmp_path) == []


def test_the_old_object_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    store = GenericStore(f"strict://{tmp_path}")
    store.put("k", b"old")
    moved = []

    def mv(self, path1, path2, **kwargs):
        moved.append(path2)
        if len(moved) in {1, 3}:  # the first try, and the one after the old object was put aside
            raise OSError("no")
        Disk.mv(self, path1, path2, **kwargs)

    monkeypatch.setattr(Strict, "mv", mv)
    with pytest.raises(StoreError):
        store.put("k", b"newer")
    assert (tmp_path / "k").read_bytes() == b"old"
    assert _drafts(tmp_path) == []
    assert len(moved) == 4


def test_a_write_that_came_short_is_not_published(tmp_path, monkeypatch):
    store = GenericStore(f"disk://{tmp_path}")
    store.put("k", b"old")
    monkeypatch.setattr(_generic_publish, "_writing", lambda file, piece: lambda _: file.write(piece[:-1]))
    with pytest.raises(StoreError, match="9 of 10 bytes arrived"):
        store.put("k", b"0123456789")
    assert (tmp_path / "k").read_bytes() == b"old"
    assert _drafts(tmp_path) == []


@pytest.fixture
def ledger(monkeypatch):
    monkeypatch.setattr(_generic_publish, "_COMMIT_ON_CLOSE", {f"{Ledger.__module__}.Ledger"})
    return GenericStore(f"ledger://{uuid4().hex}")


def test_a_file_that_commits_on_close_is_committed(ledger):
    assert "commit" in ledger.capabilities.transfer
    ledger.put("k", [b"x" * 2000, b"y" * 2000])
    assert bytes(ledger.get("k")) == b"x" * 2000 + b"y" * 2000
    ledger.delete(["k"])


@pytest.mark.parametrize("first", [[], [b"x"], [b"x" * 2000, b"y" * 2000]])
def test_a_file_that_commits_on_close_is_given_up_on_an_error(ledger, first):
    def failing():
        yield from first
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.put("k", failing())
    assert list(ledger.list()) == []


def test_a_stream_beyond_the_limit_of_memory_goes_through_a_file(s3_server, s3_bucket, s3_options, monkeypatch):
    monkeypatch.setattr(_generic_publish, "_IN_MEMORY_BYTES", 1024)
    with GenericStore(f"cloud://{s3_bucket}", **s3_options) as store:
        store.put("k", (bytes([i]) * 700 for i in range(10)))
    assert s3_server.request("GET", f"{s3_bucket}/k") == b"".join(bytes([i]) * 700 for i in range(10))


def test_a_wrong_password_is_denied_without_repeating_it(sftp):
    port, _ = sftp
    with pytest.raises(AccessDenied, match="credentials") as raised:
        GenericStore("sftp://127.0.0.1/x", **sftp_options(port, "WRONG-SECRET")).get("k")
    assert "WRONG-SECRET" not in str(raised.value)


def test_nobody_listening_is_an_outage():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="network"):
        GenericStore("sftp://127.0.0.1/x", **sftp_options(port)).get("k")


def test_a_connection_that_was_dropped_meanwhile_is_made_anew(sftp):
    port, _ = sftp
    with GenericStore(f"sftp://127.0.0.1/{uuid4().hex}", **sftp_options(port)) as store:
        for number in range(3):
            store.put("k", f"{number}".encode())
            store._client._connection.get().filesystem.client.close()  # as a server does after some idle minutes
            assert bytes(store.get("k")) == f"{number}".encode()
            store._client._connection.get().filesystem.client.close()


class _Answer(Exception):
    def __init__(self, status):
        super().__init__("a text with a SECRET")
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("SECRET"), KeyNotFound),
        (PermissionError(errno.EACCES, "denied"), AccessDenied),
        (OSError(errno.EROFS, "read-only"), AccessDenied),
        (OSError(errno.ENOSPC, "full"), StoreFull),
        (OSError(errno.ECONNREFUSED, "refused"), StoreUnavailable),
        (NotADirectoryError("SECRET"), InvalidKey),
        (ConnectionResetError("SECRET"), StoreUnavailable),
        (TimeoutError("SECRET"), StoreUnavailable),
        (EOFError("SECRET"), StoreUnavailable),
        (socket.gaierror(-2, "unknown"), StoreUnavailable),
        (ftplib.error_perm("530 SECRET"), AccessDenied),
        (ftplib.error_perm("550 SECRET"), StoreError),
        (ftplib.error_temp("421 SECRET"), StoreUnavailable),
        (_Answer(403), AccessDenied),
        (_Answer(503), StoreUnavailable),
        (_Answer(400), StoreError),
        (NotImplementedError("SECRET"), UnsupportedOperation),
        (ImportError("SECRET"), MissingDependency),
        (RuntimeError("SECRET"), StoreError),
    ],
    ids=repr,
)
def test_an_error_is_translated_by_its_class_or_code(error, kind):
    found = translated(error, "get 'k' in sftp://host/x")
    assert type(found) is kind
    assert str(found).startswith("cannot get 'k' in sftp://host/x: ")
    assert "SECRET" not in str(found)


def test_a_mistake_of_the_code_stays_what_it_is():
    error = TypeError("unexpected keyword")
    assert translated(error, "get 'k'") is error


@pytest.mark.parametrize(
    "told",
    [
        {"mtime": 1767225600.0},
        {"mtime": datetime(2026, 1, 1, tzinfo=UTC)},
        {"last_modified": datetime(2026, 1, 1)},  # noqa: DTZ001  # some tell no zone, and mean UTC
        {"LastModified": "2026-01-01T00:00:00Z"},
        {"modified": "Thu, 01 Jan 2026 00:00:00 GMT"},
        {"modify": "20260101000000"},
        {"modify": "20260101000000.000"},
        {"modificationTime": 1767225600000},
    ],
    ids=str,
)
def test_times_are_understood_however_they_are_told(told):
    info = info_of("k", {"size": 3, **told})
    assert (info.key, info.size_bytes, info.modified) == ("k", 3, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_version_is_made_of_everything_that_tells_one():
    told: list[dict[str, Any]] = [
        {"size": 3},
        {"size": 4},
        {"size": 3, "etag": "a"},
        {"size": 3, "etag": "b"},
        {"size": 3, "mtime": 1.0},
        {"size": 3, "mtime": 1.0, "ino": 7},
    ]
    assert len({info_of("k", found).version for found in told}) == len(told)
    assert info_of("k", {"size": 3, "etag": "a"}).version == info_of("k", {"size": 3, "etag": "a"}).version
