"""Two hundred rounds of eight racing creators have one winner each, wherever the store lies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import pytest

from ckptstore.errors import KeyExists
from ckptstore.store import Store, open_store

_RACERS = 8
_ROUNDS = 200

# How many rounds run at the same time. SeaweedFS lets the losers of a round wait for its lock a second at a time.
_AT_ONCE = {"local": 1, "s3": 4, "seaweedfs": 50, "gcs": 4}


@pytest.fixture(params=list(_AT_ONCE))
def place(request: pytest.FixtureRequest, tmp_path) -> tuple[str, dict[str, Any], int]:
    """The URL and the options of an empty store, and how many rounds to run at once."""
    if request.param == "local":
        return str(tmp_path / "store"), {}, _AT_ONCE["local"]
    url = {"s3": "s3_url", "seaweedfs": "seaweedfs_s3_url", "gcs": "gcs_url"}[request.param]
    options = request.getfixturevalue(f"{request.param}_options")
    return request.getfixturevalue(url), options, _AT_ONCE[request.param]


def test_200_rounds_of_8_racing_creators_have_one_winner_each(place):
    url, options, at_once = place
    with ExitStack() as stack:
        stores = [stack.enter_context(open_store(url, **options)) for _ in range(_RACERS)]
        pool = stack.enter_context(ThreadPoolExecutor(_RACERS * at_once))
        lanes = [(range(lane, _ROUNDS, at_once), Barrier(_RACERS)) for lane in range(at_once)]
        racing = [
            pool.submit(_race, store, racer, rounds, start)
            for rounds, start in lanes
            for racer, store in enumerate(stores)
        ]
        won = [(key, racer) for future in racing for key, racer in future.result()]
        assert sorted(key for key, _ in won) == [f"race/{n:03d}" for n in range(_ROUNDS)]
        assert {key: bytes(stores[0].get(key)) for key, _ in won} == {key: _entry(racer) for key, racer in won}


def _race(store: Store, racer: int, rounds: range, start: Barrier) -> list[tuple[str, int]]:
    won = []
    for n in rounds:
        start.wait()
        try:
            store.put(f"race/{n:03d}", _entry(racer), overwrite=False)
        except KeyExists:
            continue
        won.append((f"race/{n:03d}", racer))
    return won


def _entry(racer: int) -> bytes:
    return bytes([racer]) * 1000
