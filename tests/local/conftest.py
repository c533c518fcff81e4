"""What the tests of folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckptstore_backends.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store in a folder that is not there yet."""
    return LocalStore(tmp_path / "root")
