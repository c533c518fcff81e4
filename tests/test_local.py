"""What a folder adds to the contract of Store: durability, debris, foreign files, errors of the file system."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    InvalidURL,
    KeyExists,
    KeyNotFound,
    ObjectChanged,
    StoreError,
    StoreFull,
    StoreNotFound,
    UnsupportedOperation,
)
from ckptstore.objects import ByteRange, Upload
from ckptstore.store import open_store
from ckptstore.testing.processes import in_processes
from ckptstore_backends import _local_direct, _local_draft, local
from ckptstore_backends.local import LocalStore

MIB = 1024 * 1024
PAGE = 4096
NOT_UTF8 = ["\udcff\udc80"] if sys.platform == "linux" else []  # macOS refuses such names


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "root")


@pytest.fixture
def public_folder():
    """A folder that an unprivileged user reaches too, which tmp_path is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def everything(root):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*"))


# -- where it is -----------------------------------------------------------------------------------------


def test_a_missing_root_is_an_empty_store_and_is_made_by_the_first_put(tmp_path):
    store = LocalStore(tmp_path / "not" / "yet")
    assert [*store.list(), *store.list_prefixes(), *store.list_uploads()] == []
    with pytest.raises(KeyNotFound):
        store.get("k")
    store.delete(["k", "a/b"])
    assert everything(tmp_path) == []
    store.put("a/b", b"x")
    assert everything(tmp_path) == ["not", "not/yet", "not/yet/a", "not/yet/a/b"]


def test_a_root_that_is_a_file_is_said_to_be_one(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    store = LocalStore(tmp_path / "file")
    for act in (lambda: list(store.list()), lambda: list(store.list_prefixes()), lambda: store.put("k", b"x")):
        with pytest.raises(StoreNotFound, match="is not a folder"):
            act()
    with pytest.raises(KeyNotFound):
        store.get("k")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_relative_root_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("here/../there")
    monkeypatch.chdir("/")
    assert store.path("k") == tmp_path / "there" / "k"


def test_a_linked_root_and_linked_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "data").symlink_to(tmp_path / "elsewhere")
    store = LocalStore(tmp_path / "link")
    store.put("data/k", b"x")
    assert (tmp_path / "elsewhere" / "k").read_bytes() == b"x"
    assert [info.key for info in store.list()] == ["data/k"]
    store.delete(["data/k"])
    assert (tmp_path / "elsewhere").is_dir()


def test_folders_linked_in_a_circle_are_listed_once(store):
    store.put("a/k", b"x")
    store.path("a/loop").symlink_to("../..", target_is_directory=True)
    store.path("a/self").symlink_to(".", target_is_directory=True)
    assert [info.key for info in store.list("a/")][:1] == ["a/k"]
    assert len(list(store.list())) < 10


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "a%2Fb", "a#b", "a?b", "日本", *NOT_UTF8, "a;b&c=d", "~"])
def test_the_url_of_any_root_opens_it_again(tmp_path, name):
    store = LocalStore(tmp_path / name)
    assert open_store(store.url).path("k") == LocalStore.from_url(store.url).path("k") == tmp_path / name / "k"
    assert store.url == (tmp_path / name).as_uri()


def test_localhost_is_this_machine():
    assert LocalStore.from_url("file://localhost/a%20b").path("k") == Path("/a b/k")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file://server/share", "host 'server'"),
        ("file://folder", "host 'folder'"),
        ("file://~/folder", "host '~'"),
        ("file://", "no absolute path"),
        ("file:///a?b", "%3F"),
        ("file:///a?", "%3F"),
        ("file:///a#b", "%23"),
        ("file:///a%00b", "no absolute path"),
    ],
)
def test_a_url_that_names_no_local_folder_is_refused(url, said):
    with pytest.raises(InvalidURL, match=said):
        open_store(url)


def test_an_unknown_option_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="anon"):
        open_store(tmp_path, anon=True)


def test_a_store_can_be_pickled(store):
    store.put("k", b"x")
    assert bytes(pickle.loads(pickle.dumps(store)).get("k")) == b"x"


# -- durable ---------------------------------------------------------------------------------------------


@pytest.fixture
def events(monkeypatch):
    """What is flushed, by inode, and what is renamed or linked, in order."""
    seen = []

    def watch(name, tell):
        real = getattr(os, name)

        def watched(*args, **kwargs):
            seen.append((name, tell(*args)))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, watched)

    watch("fsync", lambda descriptor: os.fstat(descriptor).st_ino)
    watch("replace", lambda _, target: Path(target).name)
    watch("link", lambda _, target: Path(target).name)
    return seen


def test_an_object_is_flushed_before_it_gets_its_name_and_the_name_after(store, events):
    store.put("k", b"x")
    events.clear()
    store.put("k", b"y")
    found, folder = store.path("k").stat(), store.path("k").parent.stat()
    assert events == [("fsync", found.st_ino), ("replace", "k"), ("fsync", folder.st_ino)]


def test_a_created_object_is_flushed_before_it_gets_its_name_and_the_name_after(store, events):
    store.put("other", b"x")
    events.clear()
    store.put("k", b"y", overwrite=False)
    found, folder = store.path("k").stat(), store.path("k").parent.stat()
    assert events == [("fsync", found.st_ino), ("link", "k"), ("fsync", folder.st_ino)]


def test_new_folders_are_flushed_into_those_above_them(tmp_path, events):
    LocalStore(tmp_path / "root").put("a/b/k", b"x")
    flushed = [inode for name, inode in events if name == "fsync"]
    folders = [tmp_path, tmp_path / "root", tmp_path / "root" / "a"]
    assert flushed[:3] == [folder.stat().st_ino for folder in folders]


def test_files_and_folders_follow_the_umask(store):
    before = os.umask(0o027)
    try:
        store.put("a/k", b"x")
        store.put("a/created", b"x", overwrite=False)
    finally:
        os.umask(before)
    assert [store.path(key).stat().st_mode & 0o777 for key in ("a/k", "a/created")] == [0o640, 0o640]
    assert store.path("a").stat().st_mode & 0o777 == 0o750


def test_versions_differ_however_fast_an_object_is_replaced(store):
    assert len({store.put("k", b"same").version for _ in range(50)}) == 50


def test_an_iterable_is_written_in_bounded_memory(store):
    chunk = bytes(MIB)
    tracemalloc.start()
    try:
        store.put("k", itertools.repeat(chunk, 64))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert store.stat("k").size_bytes == 64 * MIB


# -- past the page cache ----------------------------------------------------------------------------------


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks that a test fills quickly; still whole pages."""
    monkeypatch.setattr(_local_direct, "BLOCK_BYTES", 4 * PAGE)
    monkeypatch.setattr(local, "BLOCK_BYTES", 4 * PAGE)


@pytest.fixture(params=["direct", "refused when asked for", "refused when used", "unknown here"])
def medium(request, monkeypatch):
    """Disks that writes may reach past the page cache, or not."""
    if request.param == "unknown here":
        monkeypatch.setattr(_local_direct, "_DIRECT", 0)
    elif request.param == "refused when asked for":
        monkeypatch.setattr(_local_draft, "bypass_cache", lambda *_, **__: False)
    elif request.param == "refused when used":
        pwrite = os.pwrite

        def refuse(descriptor, data, offset):
            if _local_direct.is_direct(descriptor):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", refuse)
    return request.param


_STREAMS = {
    "one block less a byte": [4 * PAGE - 1],
    "one block": [4 * PAGE],
    "two blocks and a byte": [8 * PAGE + 1],
    "many small": [1000] * 200,
    "many odd": [1, 0, 3 * PAGE + 7, 0, 9 * PAGE + 1, 5, 40 * PAGE],
}


@pytest.mark.parametrize("sizes", _STREAMS.values(), ids=_STREAMS)
def test_a_stream_is_written_whole_whatever_the_disk_can(store, small_blocks, medium, sizes):
    data = random.Random(0).randbytes(sum(sizes))
    starts = itertools.accumulate(sizes, initial=0)
    store.put("k", (bytearray(data[start : start + size]) for start, size in zip(starts, sizes, strict=False)))
    assert store.get("k") == data
    store.put("k", data[1:])
    assert store.get("k") == data[1:]


def test_buffers_may_be_used_again_once_the_next_one_is_asked_for(store, small_blocks):
    def reused():
        buffer = bytearray(3 * PAGE)
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            yield buffer

    store.put("k", reused())
    assert store.get("k") == b"".join(bytes([number]) * (3 * PAGE) for number in range(20))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_leaves_the_old_object_and_no_debris(store, small_blocks, monkeypatch, code):
    store.put("a/old", b"old")
    pwrite, asked = os.pwrite, []

    def fail(descriptor, data, offset):
        if offset >= 8 * PAGE:
            raise OSError(code, os.strerror(code))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", fail)

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield bytes(PAGE)

    with pytest.raises(StoreFull if code == errno.ENOSPC else StoreError, match="a/old"):
        store.put("a/old", endless())
    assert len(asked) < 100
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]


def test_a_producer_that_raises_in_the_middle_leaves_the_old_object_and_no_debris(store, small_blocks):
    store.put("a/old", b"old")

    def broken():
        yield bytes(50 * PAGE)
        raise OSError(errno.ENOSPC, "of the producer")

    with pytest.raises(OSError, match="of the producer") as raised:
        store.put("a/old", broken())
    assert type(raised.value) is OSError
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]


# -- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "fsync", "replace", "link"])
def test_a_write_that_fails_at_any_step_leaves_the_old_object_and_no_debris(store, monkeypatch, step, code):
    store.put("a/old", b"old")
    before = everything(store.path("a").parent)

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    expected = StoreError if code == errno.EIO else StoreFull
    if step != "link":
        with pytest.raises(expected, match="a/old"):
            store.put("a/old", iter([b"new", b"er"]))
    if step != "replace":
        with pytest.raises(expected, match="b/new"):
            store.put("b/new", b"x", overwrite=False)
    monkeypatch.undo()
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == before


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_an_interrupt_at_any_step_leaves_the_old_object_and_no_debris(store, monkeypatch, step):
    store.put("a/old", b"old")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.put("a/old", b"new")
        with pytest.raises(KeyboardInterrupt):
            store.put("fresh/folder/k", b"new")
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]


def test_a_disk_that_fills_up_leaves_the_old_object_and_no_debris(store):
    store.put("a/old", b"old")
    assert in_processes("fork", _fill, [(store,)]) == [["StoreFull"] * 4]
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old", "a/source"]


def _fill(store):
    store.put("a/source", bytes(2 * MIB))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))  # the system refuses to write on
    attempts = [
        lambda: store.put("a/old", bytes(2 * MIB)),
        lambda: store.put("a/old", itertools.repeat(bytes(1000), 5000)),
        lambda: store.put("b/new", bytes(2 * MIB), overwrite=False),
        lambda: store.copy("a/source", "a/old"),
    ]
    return [_outcome(attempt) for attempt in attempts]


def _outcome(attempt):
    try:
        attempt()
    except StoreError as error:
        return type(error).__name__
    return "no error"


def test_a_folder_without_rights_denies_access(public_folder):
    store = LocalStore(public_folder)
    store.put("readable/k", b"x")
    store.put("secret/k", b"x")
    store.path("secret").chmod(0o000)
    store.path("readable").chmod(0o555)
    try:
        assert in_processes("fork", _act_as_nobody, [(store,)]) == [["AccessDenied"] * 7 + ["k", 1]]
    finally:
        store.path("secret").chmod(0o755)
        store.path("readable").chmod(0o755)
    assert everything(public_folder) == ["readable", "readable/k", "secret", "secret/k"]


def _act_as_nobody(store):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    attempts = [
        lambda: store.put("readable/k", b"new"),
        lambda: store.put("readable/new", b"new", overwrite=False),
        lambda: store.put("secret/k", b"new"),
        lambda: store.get("secret/k"),
        lambda: store.stat("secret/k"),
        lambda: list(store.list()),
        lambda: store.delete(["gone", "readable/k", "secret/k"]),
    ]
    return [*map(_outcome, attempts), next(store.list()).key.rpartition("/")[2], len(store.get("readable/k"))]


def test_delete_goes_on_after_one_that_fails_and_names_it(public_folder):
    store = LocalStore(public_folder)
    for key in ("locked/a", "locked/b", "open/c"):
        store.put(key, b"x")
    store.path("locked").chmod(0o555)
    store.path("open").chmod(0o777)
    try:
        said = in_processes("fork", _delete_as_nobody, [(store, ["locked/a", "locked/b", "open/c"])])
    finally:
        store.path("locked").chmod(0o755)
    assert "'locked/a'" in said[0]
    assert [info.key for info in store.list()] == ["locked/a", "locked/b"]


def _delete_as_nobody(store, keys):
    if os.geteuid() == 0:
        os.setuid(65534)
    with pytest.raises(AccessDenied) as raised:
        store.delete(keys)
    return str(raised.value)


def test_a_file_where_a_folder_is_needed_is_an_invalid_key(store):
    store.put("a", b"x")
    for write in (
        lambda: store.put("a/b", b"y"),
        lambda: store.put("a/b/c", b"y", overwrite=False),
        lambda: store.copy("a", "a/b"),
    ):
        with pytest.raises(InvalidKey, match="a/b"):
            write()
    assert everything(store.path("a").parent) == ["a"]


def test_a_folder_where_a_file_is_needed_is_an_invalid_key(store):
    store.put("a/b", b"x")
    for write in (
        lambda: store.put("a", b"y"),
        lambda: store.put("a", b"y", overwrite=False),
        lambda: store.copy("a/b", "a"),
    ):
        with pytest.raises(InvalidKey, match="'a'"):
            write()
    assert everything(store.path("a").parent) == ["a", "a/b"]


def test_a_path_too_long_for_the_system_is_an_invalid_key(tmp_path):
    store = LocalStore(tmp_path.joinpath(*["x" * 250] * 17))
    for act in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: store.stat("k")):
        with pytest.raises(InvalidKey, match="shorter path"):
            act()
    assert everything(tmp_path) == []


# -- unfinished writes -----------------------------------------------------------------------------------

_WRITE_FOR_EVER = """
import itertools, sys
from ckptstore_backends.local import LocalStore
def parts():
    yield bytes(100_000)
    print("written", flush=True)
    sys.stdin.read()
LocalStore(sys.argv[1]).put(sys.argv[2], parts())
"""


def test_a_killed_writer_leaves_debris_that_is_reported_and_can_be_removed(tmp_path):
    store, key = LocalStore(tmp_path), "a/" + "k" * 200
    store.put("a/other", b"x")
    command = [sys.executable, "-c", _WRITE_FOR_EVER, str(tmp_path), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert [info.key for info in store.list()] == ["a/other"]
    assert list(store.list_prefixes()) == ["a/"]
    [upload] = store.list_uploads("a/")
    assert upload.key == key
    assert abs((datetime.now(UTC) - upload.started).total_seconds()) < 3600
    assert list(store.list_uploads("b/")) == []
    store.delete(["a/other"])
    assert list(store.list_prefixes()) == []
    store.abort_upload(upload)
    store.abort_upload(upload)
    assert everything(tmp_path) == []


def test_a_write_that_was_aborted_by_somebody_else_publishes_nothing(store):
    def parts():
        yield b"x"
        for upload in store.list_uploads():
            store.abort_upload(upload)

    with pytest.raises(StoreError, match="removed meanwhile"):
        store.put("a/k", parts())
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "upload_id", ["k", "../k", "", ".ckptstore-", ".ckptstore-0000000000000000-0000000000000000-x/../../k"]
)
def test_abort_removes_nothing_but_unfinished_writes(store, upload_id):
    store.put("k", b"x")
    with pytest.raises(StoreError, match="no unfinished write"):
        store.abort_upload(Upload("k", upload_id, datetime.now(UTC)))
    with pytest.raises(StoreError, match="no unfinished write"):
        store.abort_upload(Upload("../k", ".ckptstore-0000000000000000-0000000000000000-k", datetime.now(UTC)))
    assert bytes(store.get("k")) == b"x"


# -- file systems without something ----------------------------------------------------------------------


def _refuse(*args, **kwargs):
    raise OSError(errno.EPERM, "not here")


def test_without_hard_links_one_of_racing_creators_still_wins(store, monkeypatch):
    monkeypatch.setattr(os, "link", _refuse)

    def create(racer):
        try:
            store.put("a/k", bytes([racer]), overwrite=False)
        except KeyExists:
            return []
        return [racer]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            [winner] = itertools.chain.from_iterable(pool.map(create, range(8)))
            assert bytes(store.get("a/k")) == bytes([winner])
            assert everything(store.path("a").parent) == ["a", "a/k"]
            store.delete(["a/k"])


def test_without_hard_links_and_locks_a_create_is_unsupported(store, monkeypatch):
    monkeypatch.setattr(os, "link", _refuse)
    monkeypatch.setattr("fcntl.flock", _refuse)
    with pytest.raises(UnsupportedOperation, match="overwrite=True"):
        store.put("k", b"x", overwrite=False)
    assert [*store.list(), *store.list_uploads()] == []


def test_a_link_whose_answer_was_lost_is_recognised(store, monkeypatch):
    link = os.link

    def link_twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert store.put("k", b"mine", overwrite=False).version == store.stat("k").version
    with pytest.raises(KeyExists):
        store.put("k", b"other", overwrite=False)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system has no copy within the kernel")
def test_a_copy_that_the_kernel_refuses_half_way_is_finished_by_reading(store, monkeypatch):
    data = os.urandom(10 * MIB)
    store.put("k", data)
    in_kernel = os.copy_file_range

    def copy_some(source, target, count, offset):
        if offset:
            raise OSError(errno.EXDEV, "not across here")
        return in_kernel(source, target, 3 * MIB, offset)

    monkeypatch.setattr(os, "copy_file_range", copy_some)
    assert store.copy("k", "copy").size_bytes == len(data)
    assert bytes(store.get("copy")) == data


def test_folders_that_cannot_be_flushed_are_no_error(store, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a folder")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    store.put("a/b/k", b"x")
    assert bytes(store.get("a/b/k")) == b"x"


# -- reading and listing ---------------------------------------------------------------------------------


def test_a_file_changed_in_place_is_never_read_as_a_mix(store):
    store.put("k", b"a" * 100)
    parts = store.get_ranges("k", [ByteRange(0, 50), ByteRange(50, 50)])
    assert next(parts) == b"a" * 50
    with store.path("k").open("r+b") as file:
        file.write(b"b" * 100)
    with pytest.raises(ObjectChanged, match="k"):
        next(parts)


def test_a_file_cut_short_in_place_is_an_error(store):
    store.put("k", b"a" * 100)
    parts = store.get_ranges("k", [ByteRange(0, 50), ByteRange(50, 50)])
    next(parts)
    os.truncate(store.path("k"), 60)
    with pytest.raises(ObjectChanged):
        next(parts)


def test_an_object_deleted_while_it_is_read_is_read_to_its_end(store):
    store.put("k", b"abcdef")
    parts = store.get_ranges("k", [ByteRange(0, 3), ByteRange(3)])
    assert next(parts) == b"abc"
    store.delete(["k"])
    assert next(parts) == b"def"


def test_what_is_read_can_be_written_into(store):
    store.put("k", b"abc")
    assert not store.get("k").readonly
    assert not next(store.get_ranges("k", [ByteRange(0)])).readonly


def test_foreign_files_are_neither_listed_nor_touched(store):
    store.put("a/k", b"x")
    folder = store.path("a")
    for name in ("glob*", "line\nbreak", "back\\slash", ".ckptstore-foreign", *NOT_UTF8):
        (folder / name).write_bytes(b"not ours")
    (folder / "folder[1]").mkdir()
    (folder / "folder[1]" / "k").write_bytes(b"not ours")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    before = everything(folder)
    assert [info.key for info in store.list()] == ["a/k"]
    assert [*store.list_prefixes("a/"), *store.list_uploads()] == []
    store.delete(["a/k"])
    assert sorted({*everything(folder), "k"}) == before
    assert list(store.list_prefixes()) == []


def test_a_named_pipe_is_no_object_and_nobody_waits_for_it(store):
    store.put("k", b"x")
    os.mkfifo(store.path("pipe"))
    for read in (lambda: store.get("pipe"), lambda: store.stat("pipe"), lambda: store.copy("pipe", "k")):
        with pytest.raises(KeyNotFound):
            read()


def test_what_vanishes_during_a_listing_is_left_out(store):
    for key in ("a/1", "a/2", "b/3", "c/4"):
        store.put(key, b"x")
    listing = store.list()
    assert next(listing).key == "a/1"
    store.delete(["a/2", "b/3"])
    assert [info.key for info in listing] == ["c/4"]


def test_folders_without_objects_are_no_prefixes(store):
    store.put("x/k", b"x")
    store.path("empty/er").mkdir(parents=True)
    store.path("x/empty").mkdir()
    assert list(store.list_prefixes()) == ["x/"]
    assert list(store.list_prefixes("x/")) == []


def test_delete_removes_folders_that_it_empties_but_not_the_root(store):
    store.put("a/b/c/one", b"x")
    store.put("a/two", b"x")
    root = store.path("a").parent
    store.delete(["a/b/c/one"])
    assert everything(root) == ["a", "a/two"]
    store.delete(["a/two"])
    assert everything(root) == []
    assert root.is_dir()


def test_a_file_is_an_object_whoever_wrote_it(store):
    store.path("logs").mkdir(parents=True)
    store.path("logs/train.log").write_text("epoch 1\n")
    assert [(info.key, info.size_bytes) for info in store.list()] == [("logs/train.log", 8)]
    assert bytes(store.get("logs/train.log")) == b"epoch 1\n"
