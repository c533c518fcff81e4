"""``ckptstore export`` and ``import``: to other tools, and from the older layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ckptstore.cli.addresses import WrongUse
from ckptstore.cli.amounts import count_text, size_text
from ckptstore.cli.answers import Answer, Hanging, table
from ckptstore.cli.command import Call, OtherOptions, Words, command
from ckptstore.cli.panels import MOVE

if TYPE_CHECKING:
    from ckptstore.importing import ImportReport
    from ckptstore.store import Store

__all__ = ["export", "import_"]

_SHOWN = 12


@command("export", panel=MOVE, usage="[STORE] HASH[@STEP] TARGET")
def export(
    call: Call,
    words: Words = None,
    to: Annotated[
        Literal["safetensors", "pt"],
        typer.Option(metavar="FORMAT", help="safetensors (default) or pt, a state dict."),
    ] = "safetensors",
    with_optimizer: Annotated[
        bool, typer.Option("--with-optimizer", help="In a pt: both state dicts, model's and optimizer's.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    other_option: OtherOptions = None,
) -> Answer:
    """Write a checkpoint's tensors to a file for other tools.

    The latest checkpoint, or that of STEP. TARGET is a file, a folder (ending with /), or either in a bucket.
    """
    from ckptstore.cli.selection import chosen_checkpoint, chosen_experiment
    from ckptstore.exporting import export_checkpoint

    words = words or []
    if len(words) < 2:
        raise WrongUse("export takes HASH[@STEP] and TARGET, and before them the store, unless it is set otherwise")
    store, [address] = call.opened(words[:-1], at_least=1, at_most=1)
    experiment = chosen_experiment(store, address)
    step = chosen_checkpoint(experiment, address.step).step
    name = f"{experiment.exp_hash}_step_{step:06d}.{to}"
    place, key = _target(call, store, words[-1], name, other_option)
    call.progress.describe(f"writing {key or words[-1]}")
    found = export_checkpoint(
        store, experiment.exp_hash, step, place, to=to, key=key, with_optimizer=with_optimizer, overwrite=overwrite,
        progress=call.progress,
    )  # fmt: skip
    written = f"{found.url.rstrip('/')}/{found.key}"
    page = [f"{written}: {count_text(found.tensors, 'tensor')}, {size_text(found.size_bytes)}"]
    if found.left_out:
        page.append(f"left out, being no tensors: {', '.join(found.left_out)}")
    return Answer(found.as_dict(), tuple(page))


def _target(
    call: Call, store: Store, location: str, default_name: str, options: list[str] | None
) -> tuple[Store | str, str | None]:
    """Return where to write: a path as it is; a URL as a store, which may need options, and a key in it."""
    if "://" not in location:
        return location, None
    folder, _, name = location.rpartition("/")
    if folder.endswith(":/"):
        raise WrongUse("TARGET names a bucket and no file; add the file's name, or a / for one of its own")
    return call.open_other(store, folder, options, may_be_new=True), name or default_name


@command("import", panel=MOVE, usage="OLD_ROOT [STORE]")
def import_(
    call: Call,
    words: Words = None,
    trusted: Annotated[
        bool, typer.Option("--trusted", help="Also whole pickled models, which run the code that they name.")
    ] = False,
    config: Annotated[str | None, typer.Option(metavar="FILE", help="YAML: the config of that run.")] = None,
    name: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="What may stand before the number in a file's name.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")] = False,
    other_option: OtherOptions = None,
) -> Answer:
    """Bring checkpoints of the older, flat layout into experiments.

    OLD_ROOT is a folder of numbered checkpoints with a JSON index; it is only read. STORE may be new; -o is for it,
    and -O for OLD_ROOT. Files that are not understood are listed and left alone. Exit code 1 when one was refused.
    """
    from ckptstore.importing import import_checkpoints

    words = words or []
    if not 1 <= len(words) <= 2:
        raise WrongUse(f"{len(words)} places were given; import takes the old folder and a store")
    store = call.open(call.place(words[1] if len(words) == 2 else None), may_be_new=True)
    old = call.open_other(store, words[0], other_option)
    settings: dict[str, Any] = {"config": _yaml(config)} if config else {}
    found = import_checkpoints(
        old, store, trusted=trusted, dry_run=dry_run, names=name or (), progress=call.progress, **settings
    )
    return Answer(found.as_dict(), tuple(_import_page(found)), exit_code=0 if found.ok else 1)


def _yaml(path: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise WrongUse(f"--config: there is no file {path!r}") from None
    except OSError as error:
        raise WrongUse(f"--config: {path!r} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise WrongUse(f"--config: {path!r} is no text, so no YAML") from None
    except yaml.YAMLError as error:
        raise WrongUse(f"--config: {path!r} is not plain YAML: {error}") from None


def _done(action: str, *, dry_run: bool) -> str:
    return "would be imported" if dry_run and action == "imported" else action


def _import_page(found: ImportReport) -> Iterator[Any]:
    yield f"{found.source} -> {found.target}"
    done = {one.file: _done(one.action, dry_run=found.dry_run) for one in found.outcomes}
    rows = table("", "*file", ">step", "experiment")
    for one in found.outcomes:
        step = "-" if one.step is None else str(one.step)
        rows.add_row(f"  {done[one.file]}", one.file, step, one.exp_hash or "-")
    if found.outcomes:
        yield ""
        yield rows
    said = [(one, one.reason or f"left out: {', '.join(one.left_out)}") for one in found.outcomes]
    said = [(one, text) for one, text in said if one.reason or one.left_out]
    yield from [""] if said else []
    for one, text in said:
        short = text.rpartition("cannot be read: ")[2].removeprefix(f"{one.file} ")
        yield Hanging(f"{done[one.file]} {one.file}: {short}", 4, "  ")
    if found.unknown:
        more = len(found.unknown) - _SHOWN
        listed = ", ".join(found.unknown[:_SHOWN]) + (f" and {more} more (--json lists all)" if more > 0 else "")
        yield f"\nnot understood, left alone: {listed}"
    counts = [
        f"{sum(one.action == action for one in found.outcomes)} {_done(action, dry_run=found.dry_run)}"
        for action in dict.fromkeys(one.action for one in found.outcomes)
    ]
    yield f"\n{', '.join(counts) or 'no checkpoints found'}" + (" (a dry run: nothing was written)" * found.dry_run)
