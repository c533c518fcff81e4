"""``ckptstore`` and ``python -m ckptstore``: the command line, if its packages are installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code (docs/cli.md has them all: 0 is well, 1 is not, 2 a wrong command line)."""
    try:
        import rich  # noqa: F401  # only looked for
        import typer  # noqa: F401
    except ImportError as error:
        sys.stderr.write(f"the command line needs {error.name}; install it with: pip install 'ckptstore[cli]'\n")
        return 2
    from ckptstore.cli.app import run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
