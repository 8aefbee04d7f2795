"""A port is free of torch once saved, takes other fine-tunes, and goes back bit for bit."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.errors import FileSystemError, UsageError

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

_SPEC = importlib.util.spec_from_file_location(
    "networks_to_save", Path(__file__).with_name("ported_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)

LOADER = """
import sys
import mlx.core as mx
import numpy as np
import lstm_bridge

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "keras"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Refusing())
model = lstm_bridge.load(sys.argv[1])
inputs = [mx.array(a) for a in np.load(sys.argv[2]).values()]

def leaves(value):
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in leaves(value[key])]
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in leaves(part)]
    return [value] if hasattr(value, "shape") else []

np.savez(sys.argv[3], *[np.array(o) for o in leaves(model(*inputs))])
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_saved_port_runs_in_a_process_without_torch(tmp_path: Path, name: str) -> None:
    module = networks.NETWORKS[name]().eval()
    inputs = networks.draws(name)(0)
    lstm_bridge.save(lstm_bridge.port(module), tmp_path / "model")
    np.savez(tmp_path / "in.npz", *[x.numpy() for x in inputs])
    paths = [str(tmp_path / p) for p in ("model", "in.npz", "out.npz")]
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = list(np.load(tmp_path / "out.npz").values())
    again = lstm_bridge.load(tmp_path / "model")
    mine = flat(again(*[mx.array(x.numpy()) for x in inputs]))
    assert len(found) == len(mine)
    assert all(np.array_equal(a, np.array(b)) for a, b in zip(found, mine, strict=True))
    with torch.no_grad():
        wanted = flat(module(*inputs))
    assert all(np.abs(a - w.numpy()).max() < 1e-5 for a, w in zip(found, wanted, strict=True))


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flat(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in flat(part)]
    return [value] if hasattr(value, "shape") else []


def test_the_folder_holds_data_and_no_code(tmp_path: Path) -> None:
    lstm_bridge.save(lstm_bridge.port(networks.LSTMModel()), tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert {entry["class"] for entry in config["modules"]} >= {"torch.nn.LSTM", "torch.nn.Linear"}


def test_a_graph_may_not_read_other_attributes(tmp_path: Path) -> None:
    class Shape(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x.reshape(x.shape[0], -1)

    lstm_bridge.save(lstm_bridge.port(Shape()), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    text = path.read_text()
    assert '"shape"' in text
    path.write_text(text.replace('"shape"', '"__class__"'))
    with pytest.raises(UsageError, match="__class__"):
        lstm_bridge.load(tmp_path / "model")(mx.ones((2, 3, 4)))


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_go_back_bit_for_bit(tmp_path: Path, name: str, suffix: str) -> None:
    module = networks.NETWORKS[name]()
    ported = lstm_bridge.port(module)
    file = tmp_path / f"weights{suffix}"
    ported.save_torch(file)
    if suffix == ".pt":
        state = torch.load(file, weights_only=True)
    else:
        state = pytest.importorskip("safetensors.torch").load_file(file)
    other = networks.NETWORKS[name]()
    other.load_state_dict(state, strict=True)
    for key, tensor in module.state_dict().items():
        assert tensor.dtype == other.state_dict()[key].dtype
        assert torch.equal(tensor, other.state_dict()[key])
    with pytest.raises(FileSystemError):
        ported.save_torch(file)


def test_another_fine_tune_loads_by_name(tmp_path: Path) -> None:
    first, second = networks.Tied().eval(), networks.Tied().eval()
    ported = lstm_bridge.port(first)
    torch.save(second.state_dict(), tmp_path / "other.pt")
    x = networks.draws("Tied")(0)[0]
    with torch.no_grad():
        wanted = second(x)[0].numpy()
    for weights in (tmp_path / "other.pt", second.state_dict()):
        ported.load_weights(lstm_bridge.port(first).state_dict())
        ported.load_weights(weights)
        got = ported(mx.array(x.numpy()))[0]
        assert np.abs(np.array(got) - wanted).max() < 1e-5
    with pytest.raises(UsageError, match="missing"):
        ported.load_weights({"lstm.weight_ih_l0": mx.zeros((24, 6))})


def test_tied_weights_stay_one_and_train_as_one() -> None:
    ported = lstm_bridge.port(networks.Tied())
    names = [name for name, _ in tree_flatten(ported.parameters())]
    assert "decoder.weight" not in names
    state = ported.state_dict()
    assert mx.array_equal(state["decoder.weight"], state["embedding.weight"]).item()


def test_quantized_ports_save_and_load(tmp_path: Path) -> None:
    class Wide(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(16, 64)
            self.lstm = torch.nn.LSTM(64, 64)
            self.head = torch.nn.Linear(64, 32)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.embedding(x))[0])

    ported = lstm_bridge.port(Wide().eval())
    tokens = mx.array([[1, 2], [3, 4]])
    exact = ported(tokens)
    mlx.nn.quantize(ported, group_size=64, bits=8)
    rough = ported(tokens)
    difference = mx.abs(exact - rough).max().item()
    assert 0 < difference < 0.05
    lstm_bridge.save(ported, tmp_path / "model")
    assert mx.array_equal(lstm_bridge.load(tmp_path / "model")(tokens), rough).item()
