"""Opening a store by URL or path: what is understood, and one clear error for everything else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from ckptstore.errors import InvalidURL, UnknownBackend
from ckptstore.opening import opened
from ckptstore.store import open_store
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore


def test_a_path_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for location in (str(tmp_path / "x"), tmp_path / "x", "x", "./x", "y/../x", f"file://{tmp_path}/x"):
        store = open_store(location)
        assert type(store) is LocalStore
        assert store.path("k") == tmp_path / "x" / "k"
    assert open_store(".").path("k") == tmp_path / "k"
    assert list(tmp_path.iterdir()) == []


def test_any_path_like_object_is_a_path(tmp_path):
    class Place:
        def __fspath__(self):
            return str(tmp_path)

    assert open_store(Place()).path("k") == tmp_path / "k"


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/x").path("k") == open_store(Path("~/x")).path("k") == tmp_path / "x" / "k"


def test_a_home_that_is_not_known_is_an_invalid_url():
    with pytest.raises(InvalidURL, match="home folder"):
        open_store("~no-such-user-here/x")


@pytest.mark.parametrize("name", ["a b", "100%", "a%20b", "a#b", "a?b", "foo:bar", "日本", "a@b", "x.pt"])
def test_a_path_is_taken_literally(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert open_store(tmp_path / name).path("k") == tmp_path / name / "k"
    assert open_store(f"./{name}").path("k") == tmp_path / name / "k"
    assert open_store(name).path("k") == tmp_path / name / "k"


def test_a_file_url_is_percent_encoded(tmp_path):
    assert open_store("file:///a%20b/%E6%97%A5%23%3F").path("k") == Path("/a b/日#?/k")
    assert open_store("FILE:///a").path("k") == Path("/a/k")


def test_a_memory_is_opened_by_its_name():
    assert type(open_store("memory://name")) is MemoryStore


@pytest.mark.parametrize(
    "location", ["s3:/bucket/x", "s3:bucket", "file:/x", "memory:name", "az:/container/x", "S3:/b"]
)
def test_a_url_with_too_few_slashes_is_no_path(location, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidURL, match="://"):
        open_store(location)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("location", "said"), [("", "empty path"), ("a\x00b", "null character"), (b"/x", "not bytes")]
)
def test_what_is_no_path_at_all_is_refused(location, said):
    with pytest.raises(InvalidURL, match=said):
        open_store(location)


@pytest.mark.parametrize("location", [None, 7, object()])
def test_what_is_neither_text_nor_path_is_a_type_error(location):
    with pytest.raises(TypeError):
        open_store(location)


def test_an_unknown_scheme_lists_the_known_ones_and_hides_credentials(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownBackend) as raised:
        open_store("nosuch://name:SECRET@container/x?sig=SECRET")
    assert "'nosuch' in 'nosuch://container/x'" in str(raised.value)
    assert all(f" {scheme}," in str(raised.value) for scheme in ("file", "memory", "s3"))
    assert "SECRET" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_where_nobody_serves_the_rest_the_installed_schemes_are_listed(monkeypatch):
    installed = [point for point in entry_points(group="ckptstore.backends") if point.name in {"file", "memory"}]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: installed)
    with pytest.raises(UnknownBackend, match=re.escape("no backend for 'az' in 'az://c/x' (known: file, memory)")):
        open_store("az://c/x")


def test_credentials_in_a_mistyped_url_are_not_repeated():
    with pytest.raises(InvalidURL) as raised:
        open_store("s3:/AKIAEXAMPLE:SEC/RET@bucket")
    assert "RET" not in str(raised.value)


def _install(site, name, entry_point, module_source):
    (site / f"{name}.py").write_text(textwrap.dedent(module_source))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ckptstore.backends]\n{entry_point}\n")


def _open_elsewhere(site, url):
    program = "import sys; from ckptstore import open_store; print(repr(open_store(sys.argv[1])))"
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    command = [sys.executable, "-c", program, url]
    return subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("extra", "advice"), [("", "pip install elsewhere"), (" [cloud]", "pip install 'elsewhere[cloud]'")]
)
def test_a_backend_whose_client_is_not_installed_says_what_to_install(tmp_path, extra, advice):
    _install(tmp_path, "elsewhere", f"else = elsewhere:ElseStore{extra}", "import no_such_client_library")
    ended = _open_elsewhere(tmp_path, "else://name:SECRET@bucket/x")
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last == (
        "ckptstore.errors.MissingDependency: the backend for 'else' needs no_such_client_library; "
        f"install it with: {advice}"
    )


def test_a_backend_of_another_package_is_found_by_its_scheme(tmp_path):
    source = """
        from ckptstore_backends.memory import MemoryStore

        class ElseStore(MemoryStore):
            @classmethod
            def from_url(cls, url):
                return cls(url.removeprefix("else://"))
    """
    _install(tmp_path, "elsewhere", "else = elsewhere:ElseStore", source)
    ended = _open_elsewhere(tmp_path, "else://name")
    assert (ended.stdout, ended.stderr) == ("ElseStore('memory://name')\n", "")


def test_a_star_serves_every_scheme_that_nobody_else_does(tmp_path):
    source = """
        from ckptstore_backends.memory import MemoryStore

        class AnyStore(MemoryStore):
            @classmethod
            def from_url(cls, url):
                return cls(url.replace("://", "-"))
    """
    _install(tmp_path, "anything", "* = anything:AnyStore", source)
    assert _open_elsewhere(tmp_path, "az://name").stdout == "AnyStore('memory://az-name')\n"
    assert _open_elsewhere(tmp_path, "memory://name").stdout == "MemoryStore('memory://name')\n"


def test_importing_and_opening_a_local_store_loads_no_client(tmp_path):
    program = (
        "import sys; from ckptstore import open_store; open_store(sys.argv[1]); "
        "print(sorted({'fsspec', 's3fs', 'botocore', 'torch', 'pytest', 'upath'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_opened_opens_and_closes_what_is_an_address_and_leaves_an_open_store_alone(tmp_path):
    closed = []

    class Noted(LocalStore):
        def close(self) -> None:
            closed.append(self.url)

    with opened(tmp_path / "x") as store:
        assert type(store) is LocalStore
    noted = Noted(tmp_path)
    with opened(noted) as same:
        assert same is noted
    assert closed == []
    with pytest.raises(TypeError, match="is open already; it takes no options"), opened(noted, key="k"):
        pass
