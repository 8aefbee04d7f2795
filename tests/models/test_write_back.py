"""What is written for another framework, that framework reads and runs, to the same numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import lstm_bridge
from lstm_bridge.equivalence.judge import judge

L, N, D, H = 5, 3, 4, 6
RNG = np.random.default_rng(2)
X = RNG.standard_normal((N, L, D)).astype("f4")


def torch_lstm(**options: Any) -> torch.nn.LSTM:
    torch.manual_seed(1)
    return torch.nn.LSTM(D, H, batch_first=True, **options)


def outputs(lstm: torch.nn.LSTM, dtype: torch.dtype) -> np.ndarray:
    with torch.no_grad():
        y: np.ndarray = lstm.to(dtype)(torch.from_numpy(X).to(dtype))[0].numpy()
    lstm.float()
    return y


def assert_same(ours: Any, lstm: torch.nn.LSTM) -> None:
    verdict = judge(ours, outputs(lstm, torch.float32), outputs(lstm, torch.float64))
    assert verdict.passed, verdict.reason


def saved(lstm: torch.nn.LSTM, folder: Path) -> Path:
    torch.save({f"rnn.{k}": v for k, v in lstm.state_dict().items()}, folder / "source.pt")
    return folder / "source.pt"


SHAPES = {
    "plain": {},
    "no bias": {"bias": False},
    "bidirectional": {"bidirectional": True},
    "stacked": {"num_layers": 3},
    "stacked, bidirectional": {"num_layers": 2, "bidirectional": True},
}


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_runs_what_torch_trained(case: str, suffix: str, tmp_path: Path) -> None:
    lstm = torch_lstm(**SHAPES[case])
    target = tmp_path / f"model{suffix}"
    lstm_bridge.convert(saved(lstm, tmp_path), target, to="keras")
    if suffix == ".keras":
        model = keras.saving.load_model(target)
    else:
        lstm_bridge.convert(tmp_path / "source.pt", tmp_path / "model.keras", to="keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        for layer in model.layers:
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
        model.load_weights(target)
    assert_same(keras.ops.convert_to_numpy(model(X)), lstm)


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_torch_runs_what_keras_holds(case: str, suffix: str, tmp_path: Path) -> None:
    lstm = torch_lstm(**SHAPES[case])
    lstm_bridge.convert(saved(lstm, tmp_path), tmp_path / "model.keras", to="keras")
    target = tmp_path / f"back{suffix}"
    lstm_bridge.convert(tmp_path / "model.keras", target, to="torch")
    state = torch.load(target, weights_only=True) if suffix == ".pt" else load_file(target)
    value = torch.from_numpy(X)
    for path in dict.fromkeys(name.partition(".")[0] for name in state):  # one per Keras layer
        weights = {k.partition(".")[2]: v for k, v in state.items() if k.startswith(f"{path}.")}
        both = "weight_ih_l0_reverse" in weights
        layer = torch.nn.LSTM(
            value.shape[-1], H, batch_first=True, bidirectional=both, bias="bias_ih_l0" in weights
        )
        layer.load_state_dict(weights)
        with torch.no_grad():
            value = layer(value)[0]
    assert_same(value.numpy(), lstm)


def test_stock_mlx_runs_the_mlx_file(tmp_path: Path) -> None:
    lstm = torch_lstm()
    lstm_bridge.convert(saved(lstm, tmp_path), tmp_path / "m.safetensors", to="mlx")
    stock = mlx.nn.LSTM(D, H)
    weights = mx.load(str(tmp_path / "m.safetensors"))
    stock.load_weights([(name.removeprefix("rnn."), w) for name, w in weights.items()])
    assert_same(np.array(stock(mx.array(X))[0]), lstm)


def test_swapped_gates_are_noticed(tmp_path: Path) -> None:
    """Negative control of the comparisons above."""
    lstm = torch_lstm()
    lstm_bridge.convert(saved(lstm, tmp_path), tmp_path / "m.keras", to="keras")
    model = keras.saving.load_model(tmp_path / "m.keras")
    kernel, recurrent, bias = model.layers[0].get_weights()
    order = np.arange(4 * H).reshape(4, H)[[1, 0, 2, 3]].reshape(-1)
    model.layers[0].set_weights([kernel[:, order], recurrent, bias])
    with pytest.raises(AssertionError, match="the source's own"):
        assert_same(keras.ops.convert_to_numpy(model(X)), lstm)


def bits(path: Path) -> dict[str, bytes]:
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("through", ["keras", "mlx"])
def test_keras_weights_come_back_bit_for_bit(through: str, tmp_path: Path) -> None:
    """Keras → torch → keras, minus zeros included: the second bias must not touch the first."""
    layer = keras.layers.LSTM(H, name="rnn", return_sequences=True)
    model = keras.Sequential([keras.layers.Input((None, D)), layer])
    weights = [RNG.standard_normal(w.shape).astype("f4") for w in layer.get_weights()]
    weights[2][:3] = -0.0
    layer.set_weights(weights)
    model.save(tmp_path / "a.keras")
    names = {"keras": "b.pt", "mlx": "b.safetensors"}
    to = {"keras": "torch", "mlx": "mlx"}[through]
    lstm_bridge.convert(tmp_path / "a.keras", tmp_path / names[through], to=to)
    lstm_bridge.convert(tmp_path / names[through], tmp_path / "c.keras", to="keras")
    again = keras.saving.load_model(tmp_path / "c.keras").layers[0].get_weights()
    for before, after in zip(weights, again, strict=True):
        assert before.tobytes() == np.asarray(after).tobytes()


def test_torch_weights_come_back_but_for_the_split_of_the_bias(tmp_path: Path) -> None:
    lstm = torch_lstm()
    account = lstm_bridge.convert(saved(lstm, tmp_path), tmp_path / "b.keras", to="keras")
    assert "bias = bias_ih + bias_hh: only their sum is kept" in account.layers[0]["rules"]
    lstm_bridge.convert(tmp_path / "b.keras", tmp_path / "c.pt", to="torch")
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        assert torch.equal(state[f"rnn.{name}"], getattr(lstm, name))
    assert torch.equal(state["rnn.bias_ih_l0"], lstm.bias_ih_l0 + lstm.bias_hh_l0)
    assert not state["rnn.bias_hh_l0"].any()


def test_torch_to_torch_is_bit_exact_with_everything_beside(tmp_path: Path) -> None:
    state = {f"rnn.{k}": v for k, v in torch_lstm(num_layers=2).state_dict().items()}
    state |= {"fc.weight": torch.randn(2, H).bfloat16(), "steps": torch.tensor(7)}
    torch.save(state, tmp_path / "a.pt")
    lstm_bridge.convert(tmp_path / "a.pt", tmp_path / "folder")
    lstm_bridge.convert(tmp_path / "folder", tmp_path / "b.pt", to="torch")
    again = torch.load(tmp_path / "b.pt", weights_only=True)
    assert again.keys() == state.keys()
    for name, tensor in state.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_keeps_narrow_dtypes(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    lstm = torch_lstm(bias=False).to(dtype)
    lstm_bridge.convert(saved(lstm, tmp_path), tmp_path / f"m{suffix}", to="keras")
    if suffix == ".keras":
        layer = keras.saving.load_model(tmp_path / "m.keras").layers[0]
        kernel = layer.cell.kernel.value.detach()
        assert kernel.dtype == dtype
        assert torch.equal(kernel, lstm.weight_ih_l0.T)
    lstm_bridge.convert(tmp_path / f"m{suffix}", tmp_path / "back.pt", to="torch")
    state = torch.load(tmp_path / "back.pt", weights_only=True)
    assert torch.equal(next(v for k, v in state.items() if "weight_ih" in k), lstm.weight_ih_l0)


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.keras", "m.weights.h5"])
def test_every_output_carries_its_source_and_digests(name: str, tmp_path: Path) -> None:
    to = "keras" if "keras" in name or "h5" in name else "torch"
    account = lstm_bridge.convert(saved(torch_lstm(), tmp_path), tmp_path / name, to=to)
    wanted = json.loads(json.dumps(account.to_json()))
    assert read_note(tmp_path / name) == wanted
    assert wanted["source"]["file"] == "source.pt"
    assert all(t["sha256"].strip("0") for t in wanted["tensors"].values())


def read_note(path: Path) -> Any:
    import io
    import zipfile

    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            return json.loads(file.metadata()["lstm_bridge"])
    if path.suffix == ".pt":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("archive/.data/lstm_bridge.json"))
    data: Any = path
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data) as file:
        return json.loads(file.attrs["lstm_bridge0"].tobytes())


@pytest.mark.parametrize("name", ["m.pt", "m.safetensors", "m.keras", "m.weights.h5"])
def test_the_same_content_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    to = "keras" if "keras" in name or "h5" in name else "torch"
    source = saved(torch_lstm(), tmp_path)
    for folder in ("one", "two"):
        lstm_bridge.convert(source, tmp_path / folder / name, to=to)
    one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
    assert one == two


def refusal(source: Path, target: Path, **options: Any) -> str:
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(source, target, **options)
    assert not target.exists()
    return str(caught.value)


def test_what_a_target_cannot_compute_is_refused(tmp_path: Path) -> None:
    projected = saved(torch_lstm(proj_size=2), tmp_path)
    message = refusal(projected, tmp_path / "m.keras", to="keras")
    assert "rnn as keras.layers.LSTM: expected no projection, got proj_size > 0" in message
    cases = {
        "activation": keras.layers.LSTM(H, activation="relu", name="rnn"),
        "recurrent_activation": keras.layers.LSTM(
            H, recurrent_activation="hard_sigmoid", name="rnn"
        ),
        "go_backwards": keras.layers.LSTM(H, go_backwards=True, name="rnn"),
        "merge_mode": keras.layers.Bidirectional(
            keras.layers.LSTM(H), merge_mode="sum", name="rnn"
        ),
    }
    for option, layer in cases.items():
        keras.Sequential([keras.layers.Input((None, D)), layer]).save(tmp_path / "m.keras")
        message = refusal(tmp_path / "m.keras", tmp_path / "m.safetensors", to="torch")
        assert f"rnn as torch.nn.LSTM: expected {option}=" in message


def test_a_keras_file_has_no_place_for_other_tensors(tmp_path: Path) -> None:
    state = {f"rnn.{k}": v for k, v in torch_lstm().state_dict().items()}
    torch.save({**state, "fc.weight": torch.ones(2, H)}, tmp_path / "m.pt")
    message = refusal(tmp_path / "m.pt", tmp_path / "m.keras", to="keras")
    assert "got 1, the first 'fc.weight'; leave them out with --prefix or --ignore" in message
    account = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "m.keras", to="keras", prefix="rnn")
    assert account.ignored == ("fc.weight",)


def test_one_of_several_layers_is_chosen_by_its_path(tmp_path: Path) -> None:
    state = torch_lstm().state_dict()
    both = {f"{side}.{k}": v for side in ("encoder", "decoder") for k, v in state.items()}
    torch.save(both, tmp_path / "m.pt")
    message = refusal(tmp_path / "m.pt", tmp_path / "m.keras", to="keras")
    assert "got encoder, decoder; choose one with --prefix PATH" in message
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "m.keras", to="keras", prefix="decoder")
    message = refusal(tmp_path / "m.pt", tmp_path / "o.keras", to="keras", prefix="middle")
    assert message == "[E700] prefix: expected one of encoder, decoder, got 'middle'"


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("torch", "m.keras", "target for torch: expected a file name ending in .safetensors or .p"),
        ("jax", "m.pt", "to: expected one of mlx, torch, keras, got 'jax'"),
    ],
)
def test_the_target_must_be_one_that_the_framework_reads(
    to: str, name: str, message: str, tmp_path: Path
) -> None:
    assert message in refusal(saved(torch_lstm(), tmp_path), tmp_path / name, to=to)


def test_a_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    source, target = saved(torch_lstm(), tmp_path), tmp_path / "m.safetensors"
    target.write_text("mine")
    with pytest.raises(lstm_bridge.BridgeError, match="got a file; pass --force to replace it"):
        lstm_bridge.convert(source, target, to="torch")
    assert target.read_text() == "mine"
    lstm_bridge.convert(source, target, to="torch", force=True)
    assert len(load_file(target)) == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "source.pt"]


def test_mlx_weights_are_read(tmp_path: Path) -> None:
    stock = mlx.nn.LSTM(D, H)
    stock.save_weights(str(tmp_path / "stock.safetensors"))
    lstm_bridge.convert(tmp_path / "stock.safetensors", tmp_path / "m.pt", to="torch")
    lstm = torch_lstm()
    lstm.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    assert_same(np.array(stock(mx.array(X))[0]), lstm)
    assert (
        bits(tmp_path / "stock.safetensors")["Wx"] == lstm.weight_ih_l0.detach().numpy().tobytes()
    )


FIXTURES = Path(__file__).parents[2] / "fixtures"


def test_tf_keras_finds_a_group_of_variables_wherever_it_looks(tmp_path: Path) -> None:
    """Keras 2's reader fails where a layer that holds others has no ``vars`` group of its own."""
    lstm_bridge.convert(FIXTURES / "keras_classifier.keras", tmp_path / "folder")
    lstm_bridge.convert(tmp_path / "folder", tmp_path / "back.weights.h5", to="keras")
    with h5py.File(tmp_path / "back.weights.h5") as file:
        groups: list[str] = [""]
        file.visititems(lambda name, item: groups.append(name) if hasattr(item, "keys") else None)
        holders = [name for name in groups if not name.endswith("vars")]
        assert [name for name in holders if f"{name}/vars" not in file] == []
        assert len(holders) > 5
