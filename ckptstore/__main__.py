"""``python -m ckptstore``: examine a store from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from ckptstore.checkup import doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0 when all is well, 1 when it is not, 2 for a wrong command line."""
    given = _parser().parse_args(arguments)
    try:
        found = doctor(given.url, limit_s=given.limit, **dict(given.option))
    except TypeError as error:  # an option that the backend does not know
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(found.as_dict(), indent=2) if given.json else str(found))
    sys.stdout.write("\n")
    return 0 if found.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ckptstore", description="Keep every checkpoint with its proof.")
    commands = parser.add_subparsers(title="commands", required=True)
    command = commands.add_parser(
        "doctor",
        help="try out a store",
        description="Write, read, list, create and delete below a fresh folder, measure, and say what works. "
        "Sends about 53 MB, receives about 27, and removes everything again.",
    )
    command.add_argument("url", help="a path, s3://bucket/prefix, gs://bucket/prefix, ...")
    command.add_argument("--json", action="store_true", help="print the report as JSON")
    command.add_argument("--limit", type=float, default=120.0, metavar="SECONDS", help="stop after this time (120)")
    command.add_argument(
        "-o", "--option", type=_option, action="append", default=[], metavar="NAME=VALUE",
        help="an option of the backend; the value is JSON, or else text. Others may see the command line: "
        "keep secrets in the environment",
    )  # fmt: skip
    return parser


def _option(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{name!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    sys.exit(main())
