"""A recording is read without torch, and its text, however made, is never run."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import BridgeError

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
RECORD = FIXTURES / "torch_forecaster_recorded.pt"

ALONE = """
import sys
sys.modules["torch"] = None
import mlx.core as mx, numpy as np
import lstm_bridge
x = mx.array(np.load(sys.argv[2]))
for model in (lstm_bridge.port(sys.argv[1]), lstm_bridge.load(sys.argv[3])):
    np.save(sys.stdout.buffer, np.array(model(x)))
"""


def test_it_runs_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    import torch

    x = np.random.default_rng(0).normal(0, 1, (5, 31, 1)).astype("f4")
    np.save(tmp_path / "x.npy", x)
    lstm_bridge.convert(RECORD, tmp_path / "out")
    arguments = [RECORD, tmp_path / "x.npy", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    stream = io.BytesIO(done.stdout)
    ported, converted = np.load(stream), np.load(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        live = torch.jit.load(str(RECORD))  # type: ignore[no-untyped-call]
    lstm, head = torch.nn.LSTM(1, 16, 2, batch_first=True), torch.nn.Linear(16, 1)
    torch.nn.ModuleDict({"lstm": lstm, "fc": head}).double().load_state_dict(live.state_dict())
    with torch.no_grad():
        source = live(torch.from_numpy(x)).numpy()
        truth = head(lstm(torch.from_numpy(x).double())[0][:, -1]).numpy()
    assert judge(ported, source, truth).passed
    assert np.array_equal(ported, converted)
    assert not judge(ported[::-1], source, truth).passed


def changed(
    folder: Path, change: Callable[[str], str | bytes], where: str = "__torch__.py"
) -> Path:
    """Return a copy of the recording with one member of it changed."""
    target = folder / "changed.pt"
    with zipfile.ZipFile(RECORD) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            content: str | bytes = old.read(info)
            if info.filename.endswith("/code/__torch__.py"):
                content = change(old.read(info).decode())
            new.writestr(info.filename, content)
    return target


LINE = "    return (fc).forward(input, )"
DEEP = "(" * 5000 + "1" + ")" * 5000
CHANGES: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "control flow": (
        lambda t: t.replace(LINE, f"    if torch.gt(x, 1):\n      a = 1\n{LINE}"),
        "a question whose answer depends on the inputs",
    ),
    "numbers that grow": (
        lambda t: t.replace(
            LINE, f"    for i in range(200):\n      a = torch.mul(a, a)\n{LINE}"
        ).replace("    lstm = ", "    a = 3\n    lstm = ", 1),
        "aten::mul of other arguments",
    ),
    "text that grows": (
        lambda t: t.replace(LINE, f'    a = torch.mul("a", 99999999)\n{LINE}'),
        "aten::mul of other arguments",
    ),
    "loops without end": (
        lambda t: t.replace(
            LINE,
            "".join(f"{'  ' * (k + 2)}for i{k} in range(256):\n" for k in range(8))
            + f"{'  ' * 10}a = 1\n{LINE}",
        ),
        "more than 200000 statements",
    ),
    "a loop": (lambda t: t.replace(LINE, f"    while True:\n      a = 1\n{LINE}"), "control flow"),
    "an import": (
        lambda t: t.replace(LINE, f"    import os\n{LINE}"),
        "control flow that graphs do not have",
    ),
    "a call of Python": (lambda t: t.replace(LINE, '    return eval("1")'), "got 'eval'"),
    "an attribute of a function": (
        lambda t: t.replace(LINE, "    return torch.add.__globals__"),
        "which nothing defines",
    ),
    "an unknown operation": (
        lambda t: t.replace(LINE, "    return torch.system(x)"),
        "got aten::system",
    ),
    "an in-place operation": (
        lambda t: t.replace(LINE, "    return torch.add_(x, 1)"),
        "got aten::add_",
    ),
    "a name from nowhere": (
        lambda t: t.replace(LINE, "    return y"),
        "the name 'y', which nothing defines",
    ),
    "itself": (
        lambda t: t.replace(LINE, "    return (self).forward(x, )"),
        "calls 64 deep at most",
    ),
    "too many arguments": (
        lambda t: t.replace(LINE, "    return (fc).forward(x, x)"),
        "got 2 arguments",
    ),
    "no result": (lambda t: t.replace(LINE, "    a = 1"), "got no result"),
    "deep brackets": (lambda t: t.replace(LINE, f"    return {DEEP}"), "expressions 60 deep"),
    "deep signs": (lambda t: t.replace(LINE, f"    return {'-' * 9000}1"), "expressions 60 deep"),
    "no Python": (lambda t: t.replace(LINE, "    return ]"), "expected TorchScript's text"),
    "no text": (lambda t: b"\xff\xfe", "expected text, got other bytes"),
    "no class": (lambda t: t.replace("class LSTMModel", "class Other"), "expected a class LSTM"),
    "a class from elsewhere": (
        lambda t: t.replace("__torch__.torch.nn.modules.linear.Linear", "__torch__.os.system"),
        "expected a member",
    ),
    "a tensor that is not there": (
        lambda t: t.replace(LINE, "    return torch.add(x, self.weight)"),
        "expected a tensor 'weight', got none",
    ),
    "a constant that is not there": (
        lambda t: t.replace(LINE, "    return torch.add(x, CONSTANTS.c7)"),
        "got c7",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_damaged_or_hostile_text_is_one_line(case: str, tmp_path: Path) -> None:
    change, message = CHANGES[case]
    with pytest.raises(BridgeError) as caught:
        lstm_bridge.port(changed(tmp_path, change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_followed_still_converts_as_weights(tmp_path: Path) -> None:
    file = changed(tmp_path, CHANGES["control flow"][0])
    account = lstm_bridge.convert(file, tmp_path / "out")
    assert [entry["path"] for entry in account.layers] == ["lstm"]
    assert "depends on the inputs" in account.left_out["the whole model"]
    assert lstm_bridge.load(tmp_path / "out").lstm(mx.zeros((1, 4, 1)))[0].shape == (1, 4, 16)


def test_a_state_dict_is_no_recording() -> None:
    with pytest.raises(BridgeError, match="expected a recorded TorchScript file, got torch zip"):
        lstm_bridge.port(FIXTURES / "torch_forecaster.pt")
