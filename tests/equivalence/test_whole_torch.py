"""Whole torch models: the graph walked in NumPy against live torch, and folders as wholes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.equivalence.oracle.keras_operations import KERAS_OPERATIONS
from lstm_bridge.equivalence.oracle.torch_model import TorchOracle
from lstm_bridge.equivalence.oracle.torch_operations import TORCH_OPERATIONS
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.models.operations import OPERATIONS

torch = pytest.importorskip("torch", reason="the oracle of torch models is checked by live torch")
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence  # noqa: E402


class Forecaster(nn.Module):
    """Tokens, two directions, attention by hand, a cell over a fixed horizon."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.encoder = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.cell = nn.LSTMCell(10, 5)
        self.head = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))

    def forward(self, tokens: Any) -> Any:
        y, (h, c) = self.encoder(self.embedding(tokens))
        scores = torch.einsum("nld,nd->nl", y, torch.cat([h[-2], h[-1]], 1))
        weights = functional.softmax(scores, dim=1)
        context = self.norm(torch.bmm(weights.unsqueeze(1), y).squeeze(1))
        h, c = torch.zeros(len(tokens), 5), torch.zeros_like(c[0])
        outs = []
        for _ in range(3):
            h, c = self.cell(context, (h, c))
            outs.append(self.head(h))
        return torch.stack(outs, 1), weights


class Packing(nn.Module):
    """Ragged rows through a GRU, and what convolutions, pools and statistics make of them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 6, batch_first=True, bidirectional=True)
        self.conv = nn.Conv1d(12, 5, 3, padding=1)
        self.norm = nn.BatchNorm1d(5)
        self.attend = nn.MultiheadAttention(5, 1, batch_first=True)
        self.factor = nn.Parameter(torch.tensor([0.5, -1.5, 2.0, 0.25, 1.0]))

    def forward(self, x: Any, lengths: Any) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, h = self.rnn(packed)
        y, _ = pad_packed_sequence(y, batch_first=True)
        z = functional.relu(self.norm(self.conv(y.transpose(1, 2)))).transpose(1, 2) * self.factor
        z, _ = self.attend(z, z, z, need_weights=False)
        mask = torch.arange(z.size(1))[None] < lengths[:, None]
        pooled = z.masked_fill(~mask.unsqueeze(-1), 0.0).sum(1) / lengths.unsqueeze(-1)
        return pooled, z.max(dim=1).values - z.var(1), h


class Looping(nn.Module):
    """A cell called once for every step of an input of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 4)
        outs = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outs.append(self.head(h))
        return torch.stack(outs, 1), torch.erf(h).argsort(dim=1)


def drawn(cls: Any) -> tuple[Any, tuple[Any, ...]]:
    torch.manual_seed(5)
    module = cls().eval()
    with torch.no_grad():
        for b in module.buffers():
            if b.is_floating_point():
                b.copy_(torch.rand_like(b) + 0.2)
    rng = np.random.default_rng(6)
    if cls is Forecaster:
        return module, (rng.integers(0, 20, (4, 7)),)
    x = rng.normal(size=(4, 7, 3)).astype(np.float32)
    if cls is Looping:
        return module, (x,)
    return module, (x, np.array([4, 7, 2, 5]))


MODULES = [Forecaster, Packing, Looping]


def oracle_of(module: Any, port: Any) -> TorchOracle:
    own = {name: np.array(a) for name, a in tree_flatten(port.parameters())}
    state = {name: t.detach().numpy() for name, t in module.state_dict().items()}
    return TorchOracle(port.describe(), own | state)


@pytest.mark.parametrize("cls", MODULES)
def test_the_oracle_equals_live_torch_in_float64(cls: Any) -> None:
    module, inputs = drawn(cls)
    truth = leaves(oracle_of(module, lstm_bridge.port(module))(*inputs))
    torch.set_default_dtype(torch.float64)
    try:
        tensors = [torch.tensor(a) for a in inputs]
        live = module.double()(*(t.double() if t.is_floating_point() else t for t in tensors))
    finally:
        torch.set_default_dtype(torch.float32)
    flat = leaves(live)
    assert len(truth) == len(flat)
    for a, b in zip(truth, flat, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", MODULES)
def test_a_port_is_judged_by_the_oracle_of_the_whole(cls: Any) -> None:
    module, inputs = drawn(cls)
    port = lstm_bridge.port(module)
    report = lstm_bridge.compare(module, port, inputs, gradients=cls is Forecaster)
    assert report.passed, report.layers[0].reason
    assert report.layers[0].oracle == "NumPy float64 oracle of the whole"
    named = {part.path for part in report.layers[0].parts if part.arrays}
    assert {"encoder", "cell", "norm"} <= named or {"rnn", "conv"} <= named or "cell" in named
    wrong = lstm_bridge.port(module)
    layer = wrong.norm if "norm" in wrong else wrong.cell
    name = "weight" if "norm" in wrong else "weight_hh"
    layer.load_weights([(name, 1.01 * layer[name])], strict=False)
    assert not lstm_bridge.compare(module, wrong, inputs).passed


def test_a_wrong_layer_is_the_first_divergence() -> None:
    module, inputs = drawn(Packing)
    port = lstm_bridge.port(module)
    port.norm.eps = 1e-2
    report = lstm_bridge.compare(module, port, inputs)
    assert not report.passed
    assert str(report.first_divergence).startswith("norm ")


def folder_of(module: Any, tmp_path: Path) -> tuple[Path, Path]:
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    lstm_bridge.save(lstm_bridge.port(module), tmp_path / "folder")
    return tmp_path / "weights.pt", tmp_path / "folder"


def test_a_folder_is_judged_against_a_state_dict(tmp_path: Path) -> None:
    module, _ = drawn(Forecaster)
    source, folder = folder_of(module, tmp_path)
    report = lstm_bridge.verify(source, folder)
    assert report.passed, report.layers[0].reason
    assert report.layers[0].path == ""
    assert "the graph is the port's own" in report.layers[0].source
    arrays = dict(mx.load(str(folder / "model.safetensors")))
    arrays["head.2.weight"] = -arrays["head.2.weight"]
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})
    whole = lstm_bridge.verify(source, folder).layers[0]
    assert whole.weights.startswith("weights: head.2.weight differs")
    assert str(whole.first_divergence).startswith("head.2 ")
    assert not lstm_bridge.compare(source, folder).passed


def test_inputs_that_no_layer_tells_come_from_a_file(tmp_path: Path) -> None:
    module, (x, lengths) = drawn(Packing)
    source, folder = folder_of(module, tmp_path)
    with pytest.raises(UsageError, match=r"arrays x, lengths, .*--inputs FILE.npz"):
        lstm_bridge.verify(source, folder)
    np.savez(tmp_path / "in.npz", x=x, lengths=lengths)
    report = lstm_bridge.verify(source, folder, inputs=tmp_path / "in.npz")
    assert report.passed, report.layers[0].reason


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_recorded_module_speaks_for_itself(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.head(torch.tanh(self.lstm(x)[0][:, -1]))

    made = Fixed().eval()
    file = tmp_path / "recorded.pt"
    torch.jit.trace(made, torch.randn(4, 7, 3), check_trace=False).save(str(file))
    lstm_bridge.save(lstm_bridge.port(file), tmp_path / "folder")
    x = np.random.default_rng(3).normal(size=(4, 7, 3)).astype(np.float32)
    report = lstm_bridge.verify(file, tmp_path / "folder", inputs={"": (x,)})
    assert report.passed, report.layers[0].reason
    assert report.layers[0].source.startswith("torch ")
    assert report.layers[0].oracle == "NumPy float64 oracle of the whole"


def test_weights_of_another_model_are_refused_in_one_line(tmp_path: Path) -> None:
    module, _ = drawn(Forecaster)
    _, folder = folder_of(module, tmp_path)
    torch.save(nn.LSTM(3, 4).state_dict(), tmp_path / "other.pt")
    with pytest.raises(UsageError, match=r"verify other.pt: expected weights of the model"):
        lstm_bridge.verify(tmp_path / "other.pt", folder)


A, B = (np.random.default_rng(k).normal(size=(3, 4, 5)) for k in (1, 2))
PROBABILITY = 1 / (1 + np.exp(-B))
CLASSES = np.array([[0, 3, 1, 2, 0], [1, -100, 3, 0, 2], [3, 2, 1, 0, 1]])
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("functional.l1_loss", (A, B), {}),
    ("functional.mse_loss", (A, B), {"reduction": "sum"}),
    ("functional.huber_loss", (A, B), {"delta": 0.5}),
    ("functional.smooth_l1_loss", (A, B), {"beta": 0.5, "reduction": "none"}),
    ("functional.binary_cross_entropy", (PROBABILITY, A > 0), {}),
    ("functional.binary_cross_entropy_with_logits", (A, PROBABILITY), {}),
    ("functional.cross_entropy", (A, CLASSES), {}),
    ("functional.nll_loss", (A, CLASSES), {"reduction": "sum"}),
    ("functional.kl_div", (A, PROBABILITY), {"reduction": "batchmean"}),
    ("functional.gaussian_nll_loss", (A, B, PROBABILITY), {"full": True}),
    ("functional.interpolate", (A,), {"scale_factor": 1.7}),
    ("functional.interpolate", (A,), {"size": 8, "mode": "linear"}),
    ("functional.interpolate", (A,), {"size": 3, "mode": "linear", "align_corners": True}),
    ("functional.interpolate", (A,), {"size": 7, "mode": "nearest-exact"}),
    ("functional.lp_pool1d", (A, 2.0, 2), {}),
    ("functional.normalize", (A,), {"dim": 2}),
    ("functional.glu", (A,), {"dim": 1}),
    ("functional.scaled_dot_product_attention", (A, B, A), {"is_causal": True}),
    ("torch.addcdiv", (A, B, PROBABILITY), {"value": 0.5}),
    ("torch.frac", (3 * A,), {}),
    ("torch.diff", (A,), {"dim": 1, "n": 2}),
    ("torch.kron", (A[0], B[0]), {}),
    ("torch.cdist", (A, B), {}),
    ("torch.cummax", (A, 1), {}),
    ("torch.cummin", (A, 2), {}),
    ("torch.median", (A, 1), {}),
    ("torch.kthvalue", (A, 2, 1), {}),
    ("torch.topk", (A, 2), {"dim": 1}),
    ("torch.sort", (A,), {"dim": 1, "descending": True}),
    ("torch.logsumexp", (A, 1), {}),
    ("torch.var", (A, 1), {}),
    ("torch.std", (A,), {"dim": 2, "unbiased": False}),
    ("torch.erf", (A,), {}),
    ("torch.remainder", (A, 0.3), {}),
    ("torch.fmod", (A, -0.3), {}),
    ("torch.floor_divide", (A, 0.3), {}),
    ("torch.einsum", ("nij,nkj->nik", A, B), {}),
    ("torch.roll", (A, (1, 2), (0, 2)), {}),
    ("torch.tensor_split", (A, 3), {"dim": 2}),
    ("torch.chunk", (A, 3), {"dim": 2}),
    ("torch.cumprod", (A, 1), {}),
    ("torch.linalg.vector_norm", (A,), {"ord": 3, "dim": 1}),
    ("torch.repeat_interleave", (A, 2), {"dim": 1}),
    ("torch.triu", (A,), {"diagonal": 1}),
    ("torch.lerp", (A, B, 0.3), {}),
    ("torch.take_along_dim", (A, np.abs(CLASSES)[:, :1, None] % 4), {"dim": 1}),
]


@pytest.mark.parametrize(("name", "args", "options"), CALLS, ids=[c[0] for c in CALLS])
def test_an_operation_equals_torch_s(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    spaces = {"functional": functional, "torch": torch}
    package, _, path = name.partition(".")
    live: Any = spaces[package]
    for part in path.split("."):
        live = getattr(live, part)

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        made = torch.tensor(value)
        return made.double() if made.dtype == torch.bool else made

    ours = leaves(TORCH_OPERATIONS[name](*args, **options))
    theirs = leaves(live(*map(tensor, args), **options))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-12, atol=1e-13)


def test_every_operation_of_a_graph_is_in_the_oracle() -> None:
    graph = {"keras.Constant", "keras.Output"}  # nodes of ours, not of a Keras config
    known = {*TORCH_OPERATIONS, *graph, *(f"keras.{name}" for name in KERAS_OPERATIONS)}
    assert [name for name in OPERATIONS if name not in known] == []


def test_what_the_oracle_lacks_is_named() -> None:
    output = {"name": "output", "op": "output", "args": [{"node": "x"}]}
    nodes = [{"name": "x", "op": "torch.novel"}, output]
    with pytest.raises(UnsupportedError, match=r"oracle of 'x'.*torch.novel"):
        TorchOracle({"modules": [], "graph": nodes}, {})
