"""The README and the docs are true: their code runs, their tables are fresh, their paths exist."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w*)\n(?P<body>.*?)^(?P=fence)$", re.M | re.S)
MENTION = re.compile(r"`((?:lstm_bridge|tests|fixtures|docs|\.github|\.ci)/[\w./-]*)(?:::(\w+))?`")
BRIDGE = "from lstm_bridge.cli import main; main()"


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    body: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["body"], text.count("\n", 0, m.start("body")))
        for m in FENCE.finditer(text)
    ]


def commands_of(body: str) -> list[tuple[str, str]]:
    """Split a console block into commands and the output shown below each."""
    parts = re.split(r"^\$ ", body, flags=re.M)[1:]
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def check_command(command: str, shown: str) -> None:
    """Run a ``lstm-bridge`` command and compare what it prints with what the page shows.

    ``...`` stands for anything, and white space is not compared; a command may fail only where
    the page shows its ``error[``.
    """
    program, *arguments = shlex.split(command)
    assert program == "lstm-bridge", f"console blocks run lstm-bridge only, not {program!r}"
    done = subprocess.run(
        [sys.executable, "-c", BRIDGE, *arguments],
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == ("error[" in shown), f"$ {command}\n{done.stdout}"
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    same = not shown or doctest.OutputChecker().check_output(shown, done.stdout, flags)
    assert same, f"$ {command}\nshown:\n{shown}\nprinted:\n{done.stdout}"


def run(page: Path) -> None:
    """Run a page's blocks in order: ``python`` in one namespace, ``console`` line by line."""
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks_of(page):
        if block.language == "python":
            padded = "\n" * block.line + block.body  # so that a traceback names the page's line
            exec(compile(padded, str(page), "exec"), names)
        elif block.language == "console":
            for command, shown in commands_of(block.body):
                check_command(command, shown)


@pytest.fixture
def beside_fixtures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a copy of ``fixtures/`` in it."""
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_code_runs(page: Path, beside_fixtures: Path) -> None:
    run(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_blocks_are_fresh(page: Path, generate: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("<!-- generated:") == len(generate.MARKED.findall(text))
    assert generate.filled(text) == text, "stale: run make docs"


def test_every_generated_block_is_on_some_page(generate: ModuleType) -> None:
    used = {m[1] for page in PAGES for m in generate.MARKED.findall(page.read_text("utf-8"))}
    assert used == set(generate.BLOCKS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_and_test_named_in_prose_exists(page: Path) -> None:
    for path, name in MENTION.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
        if name:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
            assert name in defined, f"{page.name} names {path}::{name}"


def test_a_wrong_block_is_caught(beside_fixtures: Path) -> None:
    page = beside_fixtures / "page.md"
    page.write_text("Text.\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        run(page)


def test_a_wrong_output_is_caught(beside_fixtures: Path) -> None:
    with pytest.raises(AssertionError, match="shown"):
        check_command("lstm-bridge --help", "Something else entirely.\n")
    with pytest.raises(AssertionError, match="lstm-bridge"):
        check_command("lstm-bridge --no-such-option", "")


def test_a_stale_table_is_caught(generate: ModuleType) -> None:
    text = "<!-- generated:errors -->\nof old\n<!-- end -->\n"
    assert generate.filled(text) != text
    assert generate.filled(generate.filled(text)) == generate.filled(text)
