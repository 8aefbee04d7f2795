"""``--quantize``: MLX's own packed weights in whole models, stored, loaded and accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from click.testing import CliRunner
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.cli import main
from lstm_bridge.errors import UsageError
from lstm_bridge.keras import layers
from lstm_bridge.keras.layers.dense import QuantizedDense
from lstm_bridge.models.graph import descend

TOKENS = np.array([[1, 2, 3, 4, 5, 6, 7, 0, 0], [39, 8, 1, 1, 0, 0, 0, 0, 0]], "i4")
GROUPS = {"words": 64, "each.layer": 32, "wide": 32, "narrow": 64}
"""Layer → its group: 64 where that divides its width, else 32; "odd" has 10 inputs."""


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_packed_is_what_mlx_packs(wide: Path, tmp_path: Path, bits: int) -> None:
    account = lstm_bridge.convert(wide, tmp_path / "q", quantize=bits)
    model = lstm_bridge.load(tmp_path / "q")
    source = keras.saving.load_model(wide)
    for path in GROUPS:
        matrix = source.get_layer(path.partition(".")[0]).get_weights()[0]
        given = mx.array(matrix) if path == "words" else mx.array(matrix).T
        wanted = mx.quantize(given, group_size=GROUPS[path], bits=bits)
        layer = descend(model, path)
        held = (layer.weight, layer.scales, layer.biases)
        assert all(mx.array_equal(a, b).item() for a, b in zip(held, wanted, strict=True)), path
        fate = account.tensors[f"{path}.weight"]
        assert fate.how.endswith("quantized (weight)")
        assert fate.dtype == "U32"
    assert account.description["unquantized"] == {
        "odd": "its width in [10, 2] is no multiple of 32"
    }
    assert {q["path"]: q["group_size"] for q in account.description["quantized"]} == GROUPS
    kernel = source.get_layer("memory").cell.kernel
    assert np.array_equal(np.array(model.memory.cell.kernel), keras.ops.convert_to_numpy(kernel))


@pytest.mark.parametrize(("bits", "near"), [(8, 0.02), (4, 0.4)])
def test_it_answers_nearly_as_before_and_masks_still_travel(
    wide: Path, tmp_path: Path, bits: int, near: float
) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=bits)
    quantized, full = lstm_bridge.load(tmp_path / "q"), lstm_bridge.load(wide)
    a, b = (np.array(m(mx.array(TOKENS))) for m in (quantized, full))
    assert 0 < np.abs(a - b).max() < near * np.abs(b).max()
    quantized.words.weight[0] = quantized.words.weight[5]  # what padding looks up is masked
    assert np.array_equal(np.array(quantized(mx.array(TOKENS))), a)
    quantized.words.weight[1] = quantized.words.weight[5]
    assert not np.array_equal(np.array(quantized(mx.array(TOKENS))), a)


def test_quantizing_a_loaded_model_gives_the_same_folder(wide: Path, tmp_path: Path) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    model = lstm_bridge.load(wide)
    nn.quantize(
        model,
        class_predicate=lambda p, m: {"bits": 8, "group_size": GROUPS[p]} if p in GROUPS else False,
    )
    lstm_bridge.save(model, tmp_path / "s")
    theirs, ours = ((tmp_path / f / "model.safetensors").read_bytes() for f in ("q", "s"))
    assert theirs == ours
    described = [json.loads((tmp_path / f / "config.json").read_text()) for f in ("q", "s")]
    assert described[0]["quantized"] == described[1]["quantized"]
    again = lstm_bridge.load(tmp_path / "s")
    assert mx.array_equal(again(mx.array(TOKENS)), model(mx.array(TOKENS))).item()


def test_packed_weights_rest_while_the_others_train(wide: Path, tmp_path: Path) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    model = lstm_bridge.load(tmp_path / "q")
    names = {name for name, _ in tree_flatten(model.trainable_parameters())}
    assert {"memory.cell.kernel", "wide.bias", "odd.kernel"} <= names
    assert not [n for n in names if n.endswith((".weight", ".scales", ".biases"))]
    loss = nn.value_and_grad(model, lambda m: mx.mean(mx.square(m(mx.array(TOKENS)))))
    _, grads = loss(model)
    assert all(mx.abs(g).max().item() > 0 for n, g in tree_flatten(grads) if "kernel" in n)


def test_the_quantized_folder_converts_on_as_it_is(wide: Path, tmp_path: Path) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    lstm_bridge.convert(tmp_path / "q", tmp_path / "again")
    a, b = (lstm_bridge.load(tmp_path / f)(mx.array(TOKENS)) for f in ("q", "again"))
    assert mx.array_equal(a, b).item()


REFUSALS = {
    "7 bits": ("wide.keras", {"quantize": 7}, "quantize: expected 8 or 4, got 7"),
    "twice": ("q", {"quantize": 4}, "quantize: expected a model in full precision, got one whose"),
    "layout mlx": ("wide.keras", {"quantize": 8, "layout": "mlx"}, "got layout='mlx'; leave one"),
    "to keras": ("wide.keras", {"quantize": 8, "to": "keras"}, "got to='keras'; leave one of them"),
    "a part": ("wide.keras", {"quantize": 8, "prefix": "memory"}, "got prefix asks for a part of"),
    "back to keras": ("q", {"to": "keras"}, "--to keras: expected a model in full precision"),
    "back to torch": ("q", {"to": "torch"}, "--to torch: expected a model in full precision"),
    "stock layers of it": ("q", {"layout": "mlx"}, "--layout mlx: expected a model in full"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_makes_no_sense_is_one_line(wide: Path, tmp_path: Path, case: str) -> None:
    name, options, message = REFUSALS[case]
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    source = wide if name == "wide.keras" else tmp_path / "q"
    target = "out.pt" if options.get("to") == "torch" else "out.keras"
    with pytest.raises(UsageError) as caught:
        lstm_bridge.convert(source, tmp_path / target, **options)
    assert message in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q"]


def test_weights_without_a_graph_are_not_quantized(tmp_path: Path) -> None:
    import torch

    torch.save(torch.nn.LSTM(32, 32).state_dict(), tmp_path / "m.pt")
    result = CliRunner().invoke(
        main, ["convert", str(tmp_path / "m.pt"), str(tmp_path / "q"), "--quantize", "8"]
    )
    assert result.exit_code == 2
    assert result.stderr == (
        "error[E700] quantize: expected a source that describes a whole model, got the file holds "
        "weights, and not what is done with them; port the model, or load it, then "
        "lstm_bridge.save what mlx.nn.quantize made of it\n"
    )


def test_the_command_says_which_layers_were_packed(wide: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["convert", str(wide), str(tmp_path / "q"), "--quantize", "4"]
    )
    assert result.exit_code == 0, result.output
    for words in ("4 bits in groups of 64", "layer: 4 bits in groups of 32", "not quantized: its"):
        assert words in result.stdout


def test_memory_of_a_damaged_quantized_folder_is_not_trusted(wide: Path, tmp_path: Path) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    config = tmp_path / "q" / "config.json"
    text = config.read_text()
    for old, new in (('"bits": 8', '"bits": 4'), ('"path": "wide"', '"path": "memory"')):
        start = text.index('"quantized"')
        config.write_text(text[:start] + text[start:].replace(old, new))
        with pytest.raises(lstm_bridge.BridgeError, match=r"config\.json"):
            lstm_bridge.load(tmp_path / "q")


def test_a_layer_without_inputs_is_refused_as_dense_refuses_it() -> None:
    layer = layers.Dense(3)
    layer(mx.zeros((1, 64)))
    packed = layer.to_quantized(64, 8)
    assert isinstance(packed, QuantizedDense)
    with pytest.raises(lstm_bridge.BridgeError, match="the last of width 64"):
        packed(mx.zeros((1, 32)))


def truth(layer: Any, x: np.ndarray) -> np.ndarray:
    """What the packed numbers stand for, multiplied in float64."""
    matrix = np.array(layer.dequantized()).astype(np.float64)
    return np.tanh(x.astype(np.float64) @ matrix.T + np.array(layer.bias, np.float64))


def test_a_packed_dense_computes_with_the_numbers_that_it_stands_for() -> None:
    from lstm_bridge.equivalence.judge import judge

    mx.random.seed(0)
    layer = layers.Dense(5, activation="tanh")
    x = np.random.default_rng(0).normal(0, 1, (50, 96)).astype("f4")
    layer(mx.array(x))
    layer.bias = mx.random.normal((5,))
    packed = layer.to_quantized(32, 4)
    plain = np.tanh(x @ np.array(packed.dequantized()).T + np.array(packed.bias))
    assert judge(np.array(packed(mx.array(x))), plain, truth(packed, x)).passed
    packed.biases = packed.biases * 1.001
    spoilt = np.array(packed(mx.array(x)))
    packed.biases = packed.biases / 1.001
    assert not judge(spoilt, plain, truth(packed, x)).passed
