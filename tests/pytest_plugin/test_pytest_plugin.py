"""The pytest plugin, as the tests of somebody else's port use it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

NAME = "lstm_bridge.equivalence.pytest_plugin"
PORT = """
import mlx.core as mx
import numpy as np
import pytest
import torch
import lstm_bridge.torch.nn

torch.manual_seed(0)
source = torch.nn.LSTM(3, 5)
port = lstm_bridge.torch.nn.LSTM(3, 5)
port.load_weights([(k, mx.array(v.numpy())) for k, v in source.state_dict().items()])
wrong = lstm_bridge.torch.nn.LSTM(3, 5)
wrong.load_weights([(k, mx.roll(v, 5, 0)) for k, v in port.parameters().items()])
"""


def run(pytester: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_port=PORT + body)
    # Named, so that it does not depend on what the environment's metadata says.
    plugins = ("-p", NAME, *(("-p", "xdist") if "-n" in arguments else ()))
    quiet = ("-p", "no:cacheprovider", "--strict-markers", "-W", "error")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return pytester.runpytest_subprocess(*plugins, *quiet, *arguments)


def test_a_right_port_passes_and_the_report_comes_back(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
def test_port(assert_equivalent):
    report = assert_equivalent(source, port, gradients=True)
    assert report.ratio <= 4
    assert any(a.name.startswith("grad") for a in report.layers[0].arrays)
""",
    )
    result.assert_outcomes(passed=1)


def test_a_wrong_port_fails_with_its_table_and_diagnosis(pytester: pytest.Pytester) -> None:
    result = run(
        pytester, "\ndef test_port(assert_equivalent):\n    assert_equivalent(source, wrong)\n"
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "is not equivalent to torch" in text
    assert "FAIL" in text
    assert "gates permuted" in text
    assert "pytest_plugin.py" not in text  # the failure is the test's, not the plugin's


def test_the_marker_sets_dtype_and_tighter_limits(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.equivalence(dtype="bfloat16", seed=3)
def test_half(assert_equivalent):
    assert assert_equivalent(source, port).max_abs > 1e-4
    assert assert_equivalent(source, port, dtype=None).max_abs < 1e-5

@pytest.mark.equivalence(max_ratio=1e-6)
def test_ratio(assert_equivalent):
    assert_equivalent(source, port)

@pytest.mark.equivalence(max_abs=1e-12)
def test_abs(assert_equivalent):
    assert_equivalent(source, port)

@pytest.mark.equivalence(max_ratio=10)
def test_looser(assert_equivalent):
    assert_equivalent(source, port)
""",
    )
    result.assert_outcomes(passed=1, failed=3)
    result.stdout.fnmatch_lines_random(
        ["*this test allows 1e-06*", "*this test allows 1e-12*", "*a number up to 4*"]
    )


MANY = """
@pytest.mark.parametrize("seed", range(4))
def test_right(assert_equivalent, seed):
    assert_equivalent(source, port, seed=seed)
    assert_equivalent(source, port, seed=seed + 9)

def test_wrong(assert_equivalent):
    assert_equivalent(source, wrong)

def test_other():
    pass
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "xdist"])
def test_all_comparisons_come_into_one_page(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    if workers:
        pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    (pytester.path / "pages").mkdir()
    (pytester.path / "pages" / "old.comparison.json").write_text("of an earlier run")
    result = run(pytester, MANY, "--equivalence-report", "pages", *workers)
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["9 comparisons: *index.html"])
    page = (pytester.path / "pages" / "index.html").read_text(encoding="utf-8")
    assert "1 of 9 comparisons NOT equivalent" in page
    tests = re.findall(r'<a href="#c\d+">(.*?)</a>', page)
    assert tests == sorted(tests)
    assert "test_port.py::test_right[3] (2)" in tests
    assert len(re.findall("<section id=", page)) == 9
    assert "gates permuted" in page
    assert "://" not in page


def test_the_page_does_not_depend_on_the_order_of_workers(pytester: pytest.Pytester) -> None:
    pages = []
    for name in ("a", "b"):
        run(pytester, MANY, "--equivalence-report", name)
        pages.append((pytester.path / name / "index.html").read_text(encoding="utf-8"))
    assert pages[0] == pages[1]


def test_without_the_option_nothing_is_written(pytester: pytest.Pytester) -> None:
    run(pytester, "\ndef test_port(assert_equivalent):\n    assert_equivalent(source, port)\n")
    assert not [*pytester.path.rglob("*.comparison.json"), *pytester.path.rglob("index.html")]


def test_the_plugin_imports_nothing_heavy_until_it_is_used(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    heavy = {'mlx', 'numpy', 'torch', 'keras', 'h5py', 'rich', 'click', 'matplotlib'}\n"
        "    assert not heavy & {name.partition('.')[0] for name in sys.modules}\n"
        "    ours = {name for name in sys.modules if name.startswith('lstm_bridge')}\n"
        f"    assert ours == {{'lstm_bridge', 'lstm_bridge.equivalence', {NAME!r}}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", NAME, "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        env={"PATH": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_pytest_finds_the_plugin_by_itself(tmp_path: Path) -> None:
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points.pytest11]\nlstm_bridge = "{NAME}"' in declared
    shown = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--equivalence-report=DIR" in shown


def test_the_example_of_the_docs_runs(pytester: pytest.Pytester) -> None:
    page = Path(__file__).parents[2] / "docs" / "equivalence.md"
    (example,) = re.findall(r"```py\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(example.strip().splitlines()) <= 10
    run(pytester, f"\n{example}").assert_outcomes(passed=1)
