"""The demo tells its whole story, on a disk and on a bucket, and touches nothing that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptstore.store import open_store

DEMO = Path(__file__).parents[1] / "examples" / "train_digits.py"
MARK = "made_by_train_digits.txt"
OLD = "experiments/checkpoints/0123456789abcdef/model/0123456789abcdef_step_000010.pt"
SHORT = ("--epochs", "2", "--save-every", "10")


def run_demo(store: object, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), "--store", str(store), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def check_story(store: object, told: subprocess.CompletedProcess[str]) -> None:
    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if str(store) not in line)
    assert "  final weights and optimizer, bit for bit as without the break: yes" in lines
    assert sum(" -> " in line and "recorded parent" in line for line in lines) == 2
    assert "            learning_rate: 0.01 -> 0.002" in lines
    assert "            samples: 1437 -> 1429" in lines


def put(store_url: Path, *names: str) -> None:
    with open_store(store_url) as store:
        for name in names:
            store.put(name, b"something")


def keys_in(store_url: Path) -> list[str]:
    with open_store(store_url) as store:
        return [info.key for info in store.list()]


def test_the_demo_tells_its_story_in_a_folder_and_replaces_an_earlier_one(tmp_path):
    put(tmp_path, MARK, OLD)
    check_story(tmp_path, run_demo(tmp_path, *SHORT))
    found = keys_in(tmp_path)
    assert OLD not in found
    assert len({key.split("/")[2] for key in found if key.startswith("experiments/")}) == 3


def test_the_demo_tells_its_story_in_a_bucket(s3_url, moto_url):
    credentials = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    check_story(s3_url, run_demo(s3_url, *SHORT, **credentials, AWS_ENDPOINT_URL=moto_url, AWS_REGION="us-east-1"))


@pytest.mark.parametrize(
    "names", [("thesis.txt",), (MARK, "thesis.txt"), (OLD,)], ids=["foreign", "foreign beside ours", "unmarked"]
)
def test_the_demo_leaves_a_place_alone_that_holds_anything_else(tmp_path, names):
    put(tmp_path, *names)
    told = run_demo(tmp_path)
    assert told.returncode == 1
    assert "is in use" in told.stderr
    assert keys_in(tmp_path) == sorted(names)


def test_the_demo_says_that_memory_is_not_shared_between_processes():
    told = run_demo("memory://demo")
    assert told.returncode == 1
    assert "memory" in told.stderr
