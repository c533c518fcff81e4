"""The documentation is true: its code runs, its JSON parses, its tables say what the classes say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from ckptstore_backends.gcs import GCSStore
from ckptstore_backends.generic import GenericStore
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from ckptstore_backends.s3 import S3Store

_ROOT = Path(__file__).parent.parent
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LANGUAGES = {"python", "console", "text", "json", "toml", "yaml"}


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The name in a first line that is a comment and nothing else: "# test_it.py"."""
        first = self.text.partition("\n")[0]
        return first.removeprefix("# ") if re.fullmatch(r"# [\w.]+\.(py|toml)", first) else ""


def _blocks(page: Path, language: str | None = None) -> list[Block]:
    text = page.read_text()
    found = [Block(m[1], m[2], text[: m.start()].count("\n") + 1) for m in _FENCE.finditer(text)]
    return [block for block in found if language in {None, block.language}]


def _table(page: Path, first_column: str) -> dict[str, dict[str, str]]:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")]
            for line in page.read_text().splitlines() if line.startswith("|")]  # fmt: skip
    start = next(number for number, row in enumerate(rows) if row[0] == first_column)
    width = len(rows[start])
    body = rows[start + 2 :]
    stop = next((number for number, row in enumerate(body) if len(row) != width), len(body))
    return {row[0]: dict(zip(rows[start], row, strict=True)) for row in body[:stop]}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_every_block_says_its_language(page):
    fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
    assert len(fences) == 2 * len(_blocks(page))
    assert {block.language for block in _blocks(page)} <= _LANGUAGES


@pytest.mark.parametrize("page", [page for page in _PAGES if _blocks(page, "python")], ids=lambda page: page.name)
def test_the_code_on_a_page_runs_in_order(page, tmp_path):
    program = "\n".join(
        f"exec(compile({block.text!r}, {f'{page.name}, line {block.line}'!r}, 'exec'))"
        for block in _blocks(page, "python")
        if not block.file
    )
    command = [sys.executable, "-W", "error", "-c", program or "pass"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("page", "line"), [(page, block.line) for page in _PAGES for block in _blocks(page, "json")],
    ids=lambda value: value.name if isinstance(value, Path) else str(value),
)  # fmt: skip
def test_json_parses(page, line):
    [block] = [block for block in _blocks(page, "json") if block.line == line]
    assert json.loads(block.text)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_backend_in_the_docs_is_installed_and_keeps_the_contract(tmp_path):
    files = {block.file: block.text for block in _blocks(_ROOT / "docs" / "backends.md") if block.file}
    assert sorted(files) == ["pyproject.toml", "sqlite_store.py", "test_sqlite_store.py"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    _install(tmp_path, tomllib.loads(files["pyproject.toml"])["project"])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--rootdir",
        str(tmp_path),
    ]
    said = subprocess.run(
        [*command, str(tmp_path)], env=_with_path(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False
    ).stdout
    assert re.search(r"^\d{3} passed in", said, re.MULTILINE), said[-3000:]


def _install(site: Path, project: dict[str, object]) -> None:
    """Lay down what pip would: the metadata beside the module, without a network."""
    info = site / f"{str(project['name']).replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups: dict[str, dict[str, str]] = project["entry-points"]  # type: ignore[assignment]  # as PEP 621 has it
    lines = [line for group, points in groups.items()
             for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _with_path(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(_ROOT)])}


def test_the_table_of_guarantees_says_what_the_classes_say(tmp_path):
    stores = {
        "a folder": LocalStore(tmp_path),
        "`memory://`": MemoryStore("docs"),
        "`s3://`": S3Store("bucket"),
        "`gs://`": GCSStore("bucket", token="anon"),
        "any other": GenericStore("sftp://host/folder"),
        "any other, `sole_writer=True`": GenericStore("sftp://host/folder", sole_writer=True),
    }
    said = _table(_ROOT / "docs" / "stores.md", "store")
    columns = {"atomic create": "atomic_create", "durable": "durable", "copy on the server": "server_side_copy"}
    assert {name: {column: row[column] for column in columns} for name, row in said.items()} == {
        name: {column: "yes" if getattr(store.capabilities, field) else "no" for column, field in columns.items()}
        for name, store in stores.items()
    }


def test_every_extra_named_in_the_docs_exists():
    extras = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for page in _PAGES for name in re.findall(r"ckptstore\[(\w+)\]", page.read_text())}
    assert named <= set(extras)


def test_the_docs_name_no_module_that_is_not_there():
    named = {name for page in _PAGES for name in re.findall(r"`(ckptstore(?:\.\w+)+)`", page.read_text())}
    assert [name for name in named if importlib.util.find_spec(name.rpartition(".")[0]) is None] == []
