"""What importing the package brings, and what it does not."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import ckptstore

HEAVY = [
    "torch",
    "numpy",
    "fsspec",
    "s3fs",
    "gcsfs",
    "obstore",
    "botocore",
    "h5py",
    "cloudpickle",
    "yaml",
    "upath",
    "typer",
    "rich",
]


def _modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert _modules_after("import ckptstore").isdisjoint(HEAVY)


def test_importing_the_manager_loads_no_cloud_client():
    loaded = _modules_after("from ckptstore import CheckpointManagerV2")
    assert loaded.isdisjoint({"fsspec", "s3fs", "gcsfs", "obstore", "botocore", "h5py", "cloudpickle", "upath"})


def test_using_a_folder_loads_no_cloud_client(tmp_path):
    use = f"from ckptstore import open_store\nopen_store({str(tmp_path)!r}).put('a', b'x')"
    assert _modules_after(use).isdisjoint({"fsspec", "s3fs", "gcsfs", "obstore", "botocore"})


def test_every_public_name_is_there_and_listed():
    for name in ckptstore.__all__:
        assert getattr(ckptstore, name) is not None
        assert name in dir(ckptstore)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(ckptstore, "CheckpointManager")


def test_the_version_is_the_installed_one():
    assert version("ckptstore") == ckptstore.__version__


def test_every_pinned_version_satisfies_what_the_project_asks_for():
    from packaging.requirements import Requirement

    root = Path(__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = (root / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    names = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    extras = [item for group in project["optional-dependencies"].values() for item in group]
    wanted = [Requirement(item) for item in [*project["dependencies"], *extras]]
    for requirement in wanted:
        name = requirement.name.lower().replace("_", "-")
        if name != "ckptstore":
            assert requirement.specifier.contains(names[name]), requirement
