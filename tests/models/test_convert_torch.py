"""Torch checkpoints become running MLX modules that compute what torch computes."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from safetensors.numpy import load_file
from safetensors.torch import save_file

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.models.folder import Ported

L, N, D, H, P = 5, 3, 4, 6, 2


def make_lstm(**options: object) -> torch.nn.LSTM:
    torch.manual_seed(7)
    return torch.nn.LSTM(D, H, **options)  # type: ignore[arg-type]


def states(lstm: torch.nn.LSTM, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = lstm.num_layers * (2 if lstm.bidirectional else 1)
    shapes = ((L, N, D), (rows, N, lstm.proj_size or H), (rows, N, H))
    x, h, c = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return x, h, c


def run_torch(lstm: torch.nn.LSTM, *arrays: np.ndarray, double: bool) -> list[np.ndarray]:
    lstm = lstm.double() if double else lstm.float()
    x, h, c = (torch.from_numpy(a).to(torch.float64 if double else torch.float32) for a in arrays)
    with torch.no_grad():
        y, (hn, cn) = lstm(x, (h, c))
    return [t.numpy() for t in (y, hn, cn)]


def assert_runs_as_torch(lstm: torch.nn.LSTM, ported: object) -> None:
    x, h, c = states(lstm)
    y, (hn, cn) = ported(mx.array(x), (mx.array(h), mx.array(c)))  # type: ignore[operator]
    source, truth = run_torch(lstm, x, h, c, double=False), run_torch(lstm, x, h, c, double=True)
    for name, ours, theirs, exact in zip("yhc", (y, hn, cn), source, truth, strict=True):
        verdict = judge(np.array(ours), theirs, exact)
        assert verdict.passed, f"{name}: {verdict.reason}"


@given(
    layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    proj_size=st.sampled_from([0, P]),
    suffix=st.sampled_from([".pt", ".safetensors"]),
)
def test_any_lstm_runs_as_torch_runs_it(
    tmp_path_factory: pytest.TempPathFactory,
    layers: int,
    bidirectional: bool,
    bias: bool,
    proj_size: int,
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("lstm")
    lstm = make_lstm(num_layers=layers, bidirectional=bidirectional, bias=bias, proj_size=proj_size)
    source = folder / f"model{suffix}"
    if suffix == ".pt":
        torch.save(lstm.state_dict(), source)
    else:
        save_file(lstm.state_dict(), source)
    lstm_bridge.convert(source, folder / "out")
    ported = lstm_bridge.load(folder / "out")
    assert dict(tree_flatten(ported.parameters())).keys() == lstm.state_dict().keys()
    for name, tensor in lstm.state_dict().items():
        ours = np.array(dict(tree_flatten(ported.parameters()))[name])
        assert ours.tobytes() == tensor.numpy().tobytes()
    assert_runs_as_torch(lstm, ported)


def test_swapped_gates_are_noticed(tmp_path: Path) -> None:
    """Negative control: the comparison above must fail on the most common mistake."""
    lstm = make_lstm()
    state = lstm.state_dict()
    rows = torch.arange(4 * H).reshape(4, H)[[0, 2, 1, 3]].reshape(-1)
    torch.save({**state, "weight_hh_l0": state["weight_hh_l0"][rows]}, tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    with pytest.raises(AssertionError, match="the source's own"):
        assert_runs_as_torch(lstm, lstm_bridge.load(tmp_path / "out"))


class Forecaster(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(D, H, num_layers=2)
        self.head = torch.nn.Sequential(torch.nn.Linear(H, 3), torch.nn.ReLU())


@pytest.fixture
def forecaster(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    torch.save(Forecaster().state_dict(), tmp_path / "forecaster.pt")
    return tmp_path / "forecaster.pt"


def test_a_model_becomes_a_tree_of_its_names(forecaster: Path, tmp_path: Path) -> None:
    account = lstm_bridge.convert(forecaster, tmp_path / "out")
    state = torch.load(forecaster, weights_only=True)
    assert set(account.tensors) == set(state)
    model = lstm_bridge.load(tmp_path / "out")
    assert isinstance(model, Ported)
    assert list(model.layers) == ["lstm"]
    assert model.head["0"].weight.shape == (3, H)
    assert {n for n, _ in tree_flatten(model.trainable_parameters())} == set(state)
    y, _ = model(mx.zeros((L, N, D)))
    assert mx.array_equal(y, model.lstm(mx.zeros((L, N, D)))[0])


def test_stock_mlx_runs_the_mlx_layout(tmp_path: Path) -> None:
    lstm = make_lstm()
    torch.save(lstm.state_dict(), tmp_path / "m.pt")
    account = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", layout="mlx")
    assert account.tensors["bias"].how == "two biases summed"
    stock = mlx.nn.LSTM(D, H)
    stock.load_weights(str(tmp_path / "out" / "model.safetensors"))
    x, h, c = states(lstm)
    ys, _ = stock(mx.array(x).swapaxes(0, 1), mx.array(h[0]), mx.array(c[0]))
    source = run_torch(lstm, x, h, c, double=False)[0]
    truth = run_torch(lstm, x, h, c, double=True)[0]
    verdict = judge(np.array(ys).swapaxes(0, 1), source, truth)
    assert verdict.passed, verdict.reason


def test_stock_layers_of_a_bidirectional_stack_are_named_apart(tmp_path: Path) -> None:
    lstm = make_lstm(num_layers=2, bidirectional=True)
    torch.save({f"rnn.{k}": v for k, v in lstm.state_dict().items()}, tmp_path / "m.pt")
    account = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", layout="mlx")
    paths = [entry["path"] for entry in account.layers]
    assert paths == ["rnn.l0", "rnn.l0_reverse", "rnn.l1", "rnn.l1_reverse"]
    model = lstm_bridge.load(tmp_path / "out")
    x, h, c = states(lstm)
    flipped = mx.array(x[::-1].swapaxes(0, 1).copy())
    back, _ = model.rnn.l0_reverse(flipped, mx.array(h[1]), mx.array(c[1]))
    only = torch.nn.LSTM(D, H, bidirectional=True)
    only.load_state_dict({k: v for k, v in lstm.state_dict().items() if "_l0" in k})
    source = run_torch(only, x, h[:2], c[:2], double=False)[0][..., H:]
    truth = run_torch(only, x, h[:2], c[:2], double=True)[0][..., H:]
    verdict = judge(np.array(back).swapaxes(0, 1)[::-1], source, truth)
    assert verdict.passed, verdict.reason


def test_stock_mlx_has_no_projection(tmp_path: Path) -> None:
    torch.save(make_lstm(proj_size=P).state_dict(), tmp_path / "m.pt")
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", layout="mlx")
    assert str(caught.value) == (
        "[E720] (root) as stock mlx.nn.LSTM: expected no projection, got proj_size > 0; convert "
        "without a target layout: lstm_bridge's own front-end computes it"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    lstm = make_lstm().to(dtype)
    torch.save(lstm.state_dict(), tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    ported = lstm_bridge.load(tmp_path / "out")
    bits = lstm.weight_hh_l0.detach().view(torch.uint16).numpy()
    assert np.array_equal(np.array(ported.weight_hh_l0.view(mx.uint16)), bits)
    y, _ = ported(mx.zeros((L, N, D), ported.weight_hh_l0.dtype))
    assert y.dtype == ported.weight_hh_l0.dtype


def test_bfloat16_biases_are_summed_with_one_rounding(tmp_path: Path) -> None:
    lstm = make_lstm().to(torch.bfloat16)
    torch.save(lstm.state_dict(), tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", layout="mlx")
    ported = lstm_bridge.load(tmp_path / "out")
    expected = (lstm.bias_ih_l0.double() + lstm.bias_hh_l0.double()).to(torch.bfloat16)
    bits = expected.detach().view(torch.uint16).numpy()
    assert np.array_equal(np.array(ported.bias.view(mx.uint16)), bits)


def test_float64_is_rounded_only_when_asked(tmp_path: Path) -> None:
    lstm = make_lstm().double()
    torch.save(lstm.state_dict(), tmp_path / "m.pt")
    with pytest.raises(lstm_bridge.BridgeError, match="got float64; pass --allow-downcast"):
        lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    account = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", allow_downcast=True)
    assert account.tensors["weight_hh_l0"].how == "copied, rounded to float32"
    written = load_file(tmp_path / "out" / "model.safetensors")["weight_hh_l0"]
    assert np.array_equal(written, lstm.weight_hh_l0.detach().float().numpy())


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_nonfinite_weights_are_taken_only_when_asked(tmp_path: Path, bad: float) -> None:
    state = make_lstm().state_dict()
    state["weight_ih_l0"][1, 2] = bad
    torch.save(state, tmp_path / "m.pt")
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    assert str(caught.value).endswith(
        "tensor 'weight_ih_l0': expected finite numbers, got 1 NaN or infinite, the first at "
        "[1, 2]; pass --allow-nonfinite to take them as they are"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt"], "nothing was written"
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", allow_nonfinite=True)
    written = load_file(tmp_path / "out" / "model.safetensors")["weight_ih_l0"]
    assert written.tobytes() == state["weight_ih_l0"].numpy().tobytes()


def test_the_account_is_the_config_and_does_not_change(forecaster: Path, tmp_path: Path) -> None:
    first = lstm_bridge.convert(forecaster, tmp_path / "a")
    lstm_bridge.convert(forecaster, tmp_path / "b")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    written = json.loads((tmp_path / "a" / "config.json").read_text())
    assert written == json.loads(json.dumps(first.to_json()))
    digests = [written["source"]["sha256"], written["tensors"]["head.0.bias"]["sha256"]]
    assert [len(digest) for digest in digests] == [64, 64]


def test_key_order_does_not_change_the_weights_file(forecaster: Path, tmp_path: Path) -> None:
    state = torch.load(forecaster, weights_only=True)
    torch.save(dict(reversed(state.items())), tmp_path / "reversed.pt")
    lstm_bridge.convert(forecaster, tmp_path / "a")
    lstm_bridge.convert(tmp_path / "reversed.pt", tmp_path / "b")
    a, b = ((tmp_path / d / "model.safetensors").read_bytes() for d in "ab")
    assert a == b


def test_batch_first_is_stated_by_the_caller(tmp_path: Path) -> None:
    lstm = make_lstm(batch_first=True)
    torch.save(lstm.state_dict(), tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out", assume={"batch_first": True})
    ported = lstm_bridge.load(tmp_path / "out")
    x = states(lstm)[0].swapaxes(0, 1).copy()
    with torch.no_grad():
        source = lstm(torch.from_numpy(x))[0].numpy()
        truth = lstm.double()(torch.from_numpy(x).double())[0].numpy()
    verdict = judge(np.array(ported(mx.array(x))[0]), source, truth)
    assert verdict.passed, verdict.reason


def test_two_layers_are_called_by_name(tmp_path: Path) -> None:
    state = make_lstm().state_dict()
    both = {f"{side}.{k}": v for side in ("encoder", "decoder") for k, v in state.items()}
    torch.save(both, tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    model = lstm_bridge.load(tmp_path / "out")
    assert set(model.layers) == {"encoder", "decoder"}
    with pytest.raises(lstm_bridge.BridgeError, match="expected a model with one recurrent layer"):
        model(mx.zeros((L, N, D)))


def test_the_inspection_says_what_becomes_of_everything(forecaster: Path) -> None:
    found = lstm_bridge.inspect(forecaster)
    assert found.converts
    assert (found.format, found.framework) == ("torch zip", "torch")
    assert [(x.path, x.kind, x.dtype) for x in found.layers] == [("lstm", "torch.nn.LSTM", "F32")]
    fates = {t.name: t.fate for t in found.tensors}
    assert fates["lstm.bias_hh_l1"] == "converts to lstm.bias_hh_l1"
    assert fates["head.0.bias"] == "kept as head.0.bias"
    assert fates.keys() == torch.load(forecaster, weights_only=True).keys()
    assert json.loads(json.dumps(found.to_json()))["converts"] is True
