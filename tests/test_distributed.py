"""Two gloo processes, DDP included: one rank writes, every rank gets the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("distributed_job.py")


def _run(tmp_path: Path, scenario: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(PROGRAM), scenario, str(tmp_path)]
    ranks = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    try:
        outcomes = [rank.communicate(timeout=100) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], outcomes
    return [json.loads(out.splitlines()[-1]) for out, _ in outcomes]


def test_every_rank_gets_the_same_hash_and_path_and_one_rank_writes(tmp_path):
    first, second = _run(tmp_path, "save")
    assert first["exp_hash"] == second["exp_hash"]
    assert first["is_new"] is second["is_new"] is True
    assert first["paths"] == second["paths"]
    assert all(Path(path).is_file() for path in first["paths"])
    assert first["puts"] > 0
    assert second["puts"] == 0


def test_ddp_leaves_no_trace_and_resumes_on_every_rank(tmp_path):
    first, second = _run(tmp_path, "resume")
    assert first["names"] == ["weight", "bias"]
    assert first["step"] == second["step"] == 3
    assert first["weights"] == second["weights"] == first["saved"]


def test_an_error_of_the_writer_reaches_every_rank(tmp_path):
    outcomes = _run(tmp_path, "error")
    assert [outcome["error"] for outcome in outcomes] == ["ConfigTypeError", "ConfigTypeError"]


def test_a_save_called_on_the_writer_alone_does_not_wait_for_the_others(tmp_path):
    first, second = _run(tmp_path, "alone")
    assert first["steps"] == second["steps"] == [5]


@pytest.mark.parametrize("scenario", ["other_writer"])
def test_another_rank_can_be_the_writer(tmp_path, scenario):
    first, second = _run(tmp_path, scenario)
    assert first["puts"] == 0
    assert second["puts"] > 0
