"""Write docs/cli.md from the commands themselves: ``python -m ckptstore.cli.reference > docs/cli.md``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

import typer
from typer.main import get_command

from ckptstore.cli.addresses import MIN_DIGITS, STORE_VARIABLE
from ckptstore.cli.app import COMMANDS, app
from ckptstore.cli.command import DEBUG_VARIABLE
from ckptstore.cli.failures import EXIT_CODES
from ckptstore.cli.help import Option, options_of_command, paragraphs, uncapitalized

__all__ = ["reference"]

_EXAMPLES = {
    "ls": ["ckptstore ls", "ckptstore ls s3://bucket/runs --metric val_loss:min", "ckptstore ls 3fa2"],
    "show": ["ckptstore show 3fa2", "ckptstore show s3://bucket/runs 3fa2@latest"],
    "log": ["ckptstore log"],
    "cat": ["ckptstore cat 3fa2@1000", "ckptstore cat 3fa2b1c09d8e7f65_config.yaml"],
    "diff": ["ckptstore diff 3fa2 9c01", "ckptstore diff 3fa2@1000 3fa2@latest --deep",
             "ckptstore diff 3fa2@1000 3fa2@1000 --other s3://bucket/runs"],
    "why": ["ckptstore why 3fa2 9c01"],
    "mirror": ["ckptstore mirror runs s3://bucket/runs",
               "ckptstore mirror s3://bucket/runs runs --exp 3fa2 --latest 2"],
    "export": ["ckptstore export 3fa2@1000 weights.safetensors", "ckptstore export 3fa2 s3://bucket/out/ --to pt"],
    "import": ["ckptstore import old_checkpoints runs --dry-run"],
    "verify": ["ckptstore verify --deep", "ckptstore verify runs 3fa2 --deep --repair-from s3://bucket/runs"],
    "doctor": ["ckptstore doctor s3://bucket/runs"],
    "prune": ["ckptstore prune --latest 5 --best val_loss:min:3 --every 10000",
              "ckptstore prune s3://bucket/runs 3fa2 --within 7d --yes",
              "ckptstore prune --experiments-within 90d --experiments-latest 20"],
    "gc": ["ckptstore gc s3://bucket/runs --yes"],
    "compress": ["ckptstore compress --keep-latest 2"],
    "decompress": ["ckptstore decompress 3fa2 --step 1000"],
}  # fmt: skip

_HEAD = f"""# The command line

Made from the commands themselves by `make docs`; a test checks that it is current.

`pip install 'ckptstore[cli]'` brings `ckptstore`, which is also `python -m ckptstore`. What it does, the Python
functions of the same names do.

## Which store, which experiment

Wherever `[STORE]` stands, the first word may name a store: a folder, `s3://bucket/prefix`, `gs://bucket/prefix`, or
any URL that `open_store` takes. Without it the store is, in this order, `--store`, the environment variable
`{STORE_VARIABLE}`, and the folder one is in, or the only one in the two levels below it that holds experiments.

`HASH` is an experiment: {MIN_DIGITS} or more of its 16 hex digits, where they are unique. `HASH@STEP` is one of its
checkpoints, `HASH@latest` the one of the highest step. A folder with such a name is written `./beef`.

Credentials come from where the clouds' own tools find them. `-o NAME=VALUE` passes an option to the store's backend,
`-O` to that of a second store. Others on the machine may see a command line: keep secrets in the environment. No
output holds one.

## What is printed

Tables for people; with `--json` one JSON document on standard output and nothing else there, of an error too
(`{{"error": {{"type": ..., "message": ..., "exit_code": ...}}}}`). JSON knows no NaN and no infinity: they are the
texts `"nan"`, `"inf"` and `"-inf"`. Times are ISO 8601, UTC; what is not known is `null`. An error is one line on
standard error; `--debug`, or `{DEBUG_VARIABLE}=1`, adds where it came from. What takes longer than a second shows its
progress on standard error, where that is a terminal.

`prune` and `gc` delete nothing without `--yes`: they show what would go, what stays and why.

`ckptstore --install-completion` installs completion for bash, zsh, fish or PowerShell: commands, options, folders,
and the hashes and steps of a store on this machine.

## Exit codes

| code | meaning |
|---|---|
"""

_BEHIND_EXIT_CODES = """
What a command was asked decides between 0 and 1. `verify`, `doctor` and `show HASH@STEP` ask whether something is
sound; `mirror`, `compress`, `decompress` and `import` ask whether everything was done, or in a dry run could be: 1
means no, and the report says what. `ls`, `log`, `show HASH`, `diff`, `why` and `cat` show what there is, and mention
problems on the way: 0, unless what they need cannot be read. `prune` and `gc` give 0 whether something goes or stays.
Notes, such as files that are not ours, never make a 1.
"""


def reference() -> str:
    """Return the page."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES)
    return _HEAD + codes + _BEHIND_EXIT_CODES + "".join(_commands())


def _commands() -> Iterator[str]:
    group = get_command(app)
    context = typer.Context(group, info_name="ckptstore")
    for name in COMMANDS:
        command = group.get_command(context, name)  # type: ignore[attr-defined]  # it is a group
        own, shared = options_of_command(command, context)
        yield f"\n## ckptstore {name}\n\n"
        yield f"```text\nckptstore {name} {command.options_metavar}\n```\n"
        yield "".join(f"\n{textwrap.fill(text, 118, break_on_hyphens=False)}\n" for text in paragraphs(command.help))
        yield "".join(["\n", *map(_option, own)]) if own else ""
        yield "\n```console\n" + "".join(f"$ {example}\n" for example in _EXAMPLES[name]) + "```\n"
    yield "\n## Options of every command\n\n"
    yield "".join(map(_option, shared))


def _option(option: Option) -> str:
    names, text = option
    return f"- `{names}`: {uncapitalized(text)}\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
