"""Bad surroundings get one clear error, at once, and nothing is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, ExperimentHashGenerator, open_store
from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    InvalidName,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
    UnknownBackend,
    UnsupportedModel,
)
from tests.models import Net


def test_an_unknown_scheme_names_the_known_ones():
    with pytest.raises(UnknownBackend, match=r"no backend for 'ftpx' .*known: .*file.*memory.*s3"):
        CheckpointManagerV2("ftpx://host/x")


def test_a_missing_bucket_is_named(s3_options):
    with CheckpointManagerV2("s3://no-such-bucket/x", storage_options=s3_options) as manager:
        with pytest.raises(StoreNotFound, match="no-such-bucket"):
            manager.update_experiment_hash(config={"lr": 1})
        with pytest.raises(StoreNotFound, match="no-such-bucket"):
            manager.list_experiment_hashes()


def test_an_unreachable_server_is_said_to_be(s3_options):
    options = {**s3_options, "endpoint_url": "http://127.0.0.1:1"}
    with CheckpointManagerV2("s3://bucket/x", storage_options=options) as manager, pytest.raises(StoreUnavailable):
        manager.update_experiment_hash(config={"lr": 1})


def test_no_message_holds_a_secret(s3_options):
    options = {**s3_options, "secret": "hunter2-secret"}
    with CheckpointManagerV2("s3://no-such-bucket/x", storage_options=options) as manager:
        with pytest.raises(StoreNotFound) as raised:
            manager.list_experiment_hashes()
        assert "hunter2" not in f"{raised.value!r} {raised.value} {manager!r} {manager.store!r}"


@pytest.fixture
def nobody():
    """Be a user whom permissions bind, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def read_only():
    """A folder that nobody but root may write to, below folders that anybody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101
        root = Path(folder) / "root"
        root.mkdir(mode=0o555)
        yield root


def test_a_read_only_folder_is_access_denied_and_nothing_is_left_in_it(read_only, nobody):
    with CheckpointManagerV2(read_only) as manager, pytest.raises(AccessDenied, match=str(read_only)):
        manager.update_experiment_hash(config={"lr": 1})
    assert list(read_only.iterdir()) == []


FULL_DISK = """
import resource, signal, sys, torch
from ckptstore import CheckpointManagerV2
from ckptstore.errors import StoreFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
manager = CheckpointManagerV2(sys.argv[1])
small, large = torch.nn.Linear(10, 10), torch.nn.Linear(1000, 1000)
manager.update_experiment_hash(small)
manager.save_model_checkpoint(small, step=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
import warnings; warnings.simplefilter("ignore")
for step in (1, 2):
    try:
        manager.save_model_checkpoint(large, step=step)
    except StoreFull as error:
        print(error)
print(manager.load_latest_checkpoint(small)["step"])
"""


def test_a_full_disk_leaves_the_checkpoint_before_and_no_debris(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    *errors, step = done.stdout.splitlines()
    assert len(errors) == 2
    assert step == "1"
    left = [name for _, _, names in os.walk(tmp_path) for name in names]
    assert sorted(name.partition("_")[2] for name in left) == [
        "architecture.pkl",
        "architecture.txt",
        "provenance.yaml",
        "step_000001.pt",
    ]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1_000_000
    assert issubclass(StoreFull, OSError)


def test_a_key_outside_the_root_is_refused(any_store):
    for key in ("../x", "a/../../x", "/etc/passwd", "a//b", "a\\..\\b"):
        with pytest.raises(InvalidKey):
            any_store.put(key, b"x")
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(config={"lr": 1})
    with pytest.raises(InvalidName):
        manager.save_config({}, config_name="../../x")


def test_a_lazy_model_must_run_once_first(any_store):
    manager = CheckpointManagerV2(any_store)
    with pytest.raises(UnsupportedModel, match="the module is lazy; run one batch"):
        manager.update_experiment_hash(nn.LazyLinear(3))


@pytest.mark.parametrize("model", [{"a": 1}, "model", Net, 3])
def test_what_is_no_module_cannot_be_hashed(model):
    with pytest.raises(UnsupportedModel):
        ExperimentHashGenerator().generate_hash(model=model)


def test_a_folder_that_was_deleted_meanwhile_is_made_again(tmp_path):
    import shutil

    with CheckpointManagerV2(tmp_path / "root") as manager:
        manager.update_experiment_hash(nn.Linear(1, 1), {"lr": 1})
        shutil.rmtree(tmp_path / "root")
        assert manager.update_experiment_hash()[1]
        manager.save_model_checkpoint(nn.Linear(1, 1), step=1)
        assert manager.load_checkpoint(step=1)["step"] == 1


def test_a_file_where_the_root_should_be_is_said_to_be(tmp_path):
    (tmp_path / "root").write_text("not a folder")
    with CheckpointManagerV2(tmp_path / "root") as manager, pytest.raises(StoreNotFound, match="not a folder"):
        manager.update_experiment_hash(config={"lr": 1})


def test_a_store_can_be_opened_by_what_a_manager_shows(tmp_path):
    with CheckpointManagerV2(tmp_path) as manager, open_store(manager.store.url) as again:
        manager.update_experiment_hash(config={"lr": torch.tensor(1.0)})
        assert len(list(again.list())) == 2
