"""The groups in which the help shows the commands."""

from __future__ import annotations

LOOK = "Look"
COMPARE = "Compare"
MOVE = "Move"
KEEP = "Keep sound and small"
