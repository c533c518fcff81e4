"""What is in a folder, and names that a folder may hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

NOT_UTF8 = ["\udcff\udc80"] if sys.platform == "linux" else []  # macOS refuses such names


def everything(root: str | os.PathLike[str]) -> list[str]:
    """The paths of all that is below a folder, in order."""
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*"))
