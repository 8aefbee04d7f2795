"""A ported model trains in MLX along torch's own curve, and with several processes as with one."""

from __future__ import annotations

import importlib.util
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn
import mlx.optimizers
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.equivalence.judge import judge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

_SPEC = importlib.util.spec_from_file_location(
    "networks_to_train", Path(__file__).with_name("ported_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "fine_tune_distributed.py"
STEPS = 12


def curve_in_torch(module: Any, data: list[Any], target: Any) -> list[float]:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = ((module(*data) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def curve_in_mlx(model: Any, data: list[mx.array], target: mx.array, rate: float) -> list[float]:
    optimizer = mlx.optimizers.SGD(learning_rate=rate, momentum=0.9)
    step = mlx.nn.value_and_grad(model, lambda *xs: mx.mean((model(*xs) - target) ** 2))
    losses = []
    for _ in range(STEPS):
        loss, slopes = step(*data)
        optimizer.update(model, slopes)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("rate", [0.05, 0.055])
def test_a_port_trains_along_torchs_curve(rate: float) -> None:
    module = networks.LSTMModel().eval()
    exact = networks.LSTMModel().eval().double()
    exact.load_state_dict(module.state_dict())
    ported = lstm_bridge.port(module)
    x, y = torch.randn(8, 6, 3), torch.randn(8, 2)
    mine = curve_in_mlx(ported, [mx.array(x.numpy())], mx.array(y.numpy()), rate)
    theirs = curve_in_torch(module, [x], y)
    torch.set_default_dtype(torch.float64)
    try:
        true = curve_in_torch(exact, [x.double()], y.double())
    finally:
        torch.set_default_dtype(torch.float32)
    assert true[-1] < true[0]
    assert judge(mine, theirs, true).passed == (rate == 0.05)


def test_a_trained_port_goes_back_to_torch(tmp_path: Path) -> None:
    module = networks.LSTMModel().eval()
    ported = lstm_bridge.port(module)
    x, y = mx.random.normal((8, 6, 3)), mx.random.normal((8, 2))
    curve_in_mlx(ported, [x], y, 0.05)
    ported.save_torch(tmp_path / "trained.pt")
    module.load_state_dict(torch.load(tmp_path / "trained.pt", weights_only=True), strict=True)
    with torch.no_grad():
        wanted = module(torch.from_numpy(np.array(x))).numpy()
    assert np.abs(np.array(ported(x)) - wanted).max() < 1e-5


def test_batch_norm_moves_its_statistics_while_a_port_trains() -> None:
    module = networks.ConvRecurrent().train()
    ported = lstm_bridge.port(module)
    x = torch.randn(2, 8, 3)
    module(x)
    ported(mx.array(x.numpy()))
    state = module.state_dict()
    assert ported.state_dict()["bn.num_batches_tracked"].item() == 1
    moved = np.array(ported.state_dict()["bn.running_mean"])
    assert np.abs(moved - state["bn.running_mean"].numpy()).max() < 1e-6


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.mark.parametrize("average", [True, False])
def test_two_processes_train_like_one_on_the_whole_batch(tmp_path: Path, average: bool) -> None:
    if not mx.distributed.is_available():
        pytest.skip("this build of MLX has no distributed engine")
    lstm_bridge.save(lstm_bridge.port(networks.LSTMModel().eval()), tmp_path / "model")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 6, 3)), rng.normal(size=(8, 2))
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), y=y.astype(np.float32))
    script = runpy.run_path(str(EXAMPLE))
    script["fine_tune"](tmp_path / "model", tmp_path / "data.npz", tmp_path / "one", steps=5)
    (tmp_path / "hosts.json").write_text(
        str([[f"127.0.0.1:{port}"] for port in free_ports(2)]).replace("'", '"')
    )
    arguments = [str(tmp_path / name) for name in ("model", "data.npz", "two")]
    more = [] if average else ["--each-alone"]
    workers = [
        subprocess.Popen(
            [sys.executable, str(EXAMPLE), *arguments, "--steps", "5", *more],
            env={
                **__import__("os").environ,
                "MLX_RANK": str(rank),
                "MLX_HOSTFILE": str(tmp_path / "hosts.json"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [worker.communicate(timeout=120)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    one, two = (lstm_bridge.load(tmp_path / name).state_dict() for name in ("one", "two"))
    apart = max(mx.abs(one[name] - two[name]).max().item() for name in one)
    assert (apart < 1e-6) == average
