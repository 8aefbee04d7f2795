"""The oracle against live Keras in float64: every activation, direction, merge and mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.equivalence.oracle import GRADIENTS, ONE_STEP, ORACLES, keras_lstm
from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.tree import leaves

keras = pytest.importorskip("keras", reason="parity with Keras needs keras")
torch = pytest.importorskip("torch", reason="Keras runs on torch here")

N, L, D, H = 3, 5, 4, 6


@pytest.fixture(autouse=True, scope="module")
def _keras_multiplies_in_float64() -> Iterator[None]:
    """Keras 3 on torch computes ``ops.matmul`` of two float64 tensors in float32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras.src.ops.matmul", torch.matmul)
        yield


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0.3, 0.8, shape)


def randomise(layer: Any, rng: np.random.Generator) -> None:
    for w in layer.weights:
        w.assign(rng.normal(0.1, 0.5, w.shape))


def cell_params(layer: Any, prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}{w.name}": w.value.detach().numpy() for w in layer.weights}


def close(ours: Any, theirs: Any, atol: float = 1e-13) -> None:
    for a, b in zip(leaves(ours), leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=atol)


def built(options: dict[str, Any], rng: np.random.Generator) -> tuple[Any, dict[str, np.ndarray]]:
    layer = keras.layers.LSTM(H, dtype="float64", **options)
    layer.build((N, L, D))
    randomise(layer, rng)
    return layer, cell_params(layer)


FLAGS = st.fixed_dictionaries(
    {
        "return_sequences": st.booleans(),
        "return_state": st.booleans(),
        "go_backwards": st.booleans(),
        "zero_output_for_mask": st.booleans(),
        "use_bias": st.booleans(),
    }
)
MASK = np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0]], bool)


@given(FLAGS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_lstm_values_and_gradients_equal_keras(
    options: dict[str, Any], masked: bool, with_state: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    layer, params = built(options, rng)
    x, h, c = draw(rng, N, L, D), draw(rng, N, H), draw(rng, N, H)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, h, c)]
    mask = MASK if masked else None
    outs = leaves(
        layer(
            tensors[0],
            initial_state=tensors[1:] if with_state else None,
            mask=None if mask is None else torch.tensor(mask),
        )
    )
    inputs = (x, [h, c] if with_state else None, mask)
    close(keras_lstm(params, *inputs[:2], mask=mask, **options), outs)

    cotangents = [draw(rng, *o.shape) for o in outs]
    torch.autograd.backward(outs, [torch.tensor(g) for g in cotangents])
    found = GRADIENTS["keras.layers.LSTM"](options, params, inputs, cotangents)
    wanted = {"x": tensors[0].grad} | {w.name: w.value.grad for w in layer.weights}
    if with_state:
        wanted |= {"h0": tensors[1].grad, "c0": tensors[2].grad}
    assert set(wanted) <= set(found)
    for name, grad in wanted.items():
        np.testing.assert_allclose(found[name], grad.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)


KERAS_NAMES = [n for n in ACTIVATIONS if n != "hard_sigmoid_keras2"]


@pytest.mark.parametrize("name", KERAS_NAMES)
def test_activation_and_its_derivative_equal_keras(name: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 2.5, (7, 9))
    tensor = torch.tensor(x, requires_grad=True)
    y = keras.activations.get(name)(tensor)
    dy = draw(rng, 7, 9)
    y.backward(torch.tensor(dy))
    ours = ACTIVATIONS[name].f(x)
    # torch's softplus is the identity above 20, so mish and softplus differ by e^-20 at most.
    np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ACTIVATIONS[name].vjp(x, ours, dy), tensor.grad, atol=1e-12)


def test_the_list_of_activations_is_keras_own() -> None:
    from keras.src.activations import ALL_OBJECTS_DICT

    # glu halves the width and threshold takes arguments: neither is a gate's activation. Keras
    # 3.15's sparsemax does not sum to one, so that its definition is no oracle for it.
    assert set(KERAS_NAMES) == set(ALL_OBJECTS_DICT) - {"glu", "threshold", "sparsemax"}


def test_both_hard_sigmoids() -> None:
    x = np.array([-9.0, -2.9, -1.0, 0.5, 2.6, 9.0])
    np.testing.assert_allclose(ACTIVATIONS["hard_sigmoid_keras2"].f(x), [0, 0, 0.3, 0.6, 1, 1])
    np.testing.assert_allclose(
        ACTIVATIONS["hard_sigmoid"].f(x), [0, 0.1 / 6, 2 / 6, 3.5 / 6, 5.6 / 6, 1]
    )


@pytest.mark.parametrize("phi", ["relu", "softmax", "linear", None])
@pytest.mark.parametrize("sigma", ["hard_sigmoid", "softmax", "hard_sigmoid_keras2"])
def test_lstm_with_other_activations_equals_keras(phi: str | None, sigma: str) -> None:
    rng = np.random.default_rng(6)

    def old(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0, 1)

    live = old if sigma == "hard_sigmoid_keras2" else sigma
    layer, params = built({"activation": phi, "recurrent_activation": live}, rng)
    options = {"activation": phi, "recurrent_activation": sigma}
    x = draw(rng, N, L, D)
    close(ORACLES["keras.layers.LSTM"](options, params, x), layer(x), 1e-12)


@given(
    st.sampled_from(["concat", "sum", "mul", "ave", None]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_bidirectional_values_and_gradients_equal_keras(
    merge: str | None, sequences: bool, state: bool, masked: bool, own_backward: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    common = {"return_sequences": sequences, "return_state": state, "dtype": "float64"}
    backward = (
        keras.layers.LSTM(H, activation="softsign", go_backwards=True, **common)
        if own_backward
        else None
    )
    layer = keras.layers.Bidirectional(
        keras.layers.LSTM(H, **common), merge_mode=merge, backward_layer=backward, dtype="float64"
    )
    layer.build((N, L, D))
    randomise(layer, rng)
    params = cell_params(layer.forward_layer, "forward_layer.cell.")
    params |= cell_params(layer.backward_layer, "backward_layer.cell.")
    x = draw(rng, N, L, D)
    states = [draw(rng, N, H) for _ in range(4)]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, *states)]
    mask = MASK if masked else None
    outs = leaves(
        layer(
            tensors[0],
            initial_state=tensors[1:],
            mask=None if mask is None else torch.tensor(mask),
        )
    )
    options = layer.get_config()
    close(ORACLES["keras.layers.Bidirectional"](options, params, x, states, mask), outs)

    cotangents = [draw(rng, *o.shape) for o in outs]
    torch.autograd.backward(outs, [torch.tensor(g) for g in cotangents])
    found = GRADIENTS["keras.layers.Bidirectional"](options, params, (x, states, mask), cotangents)
    wanted = dict(zip(("x", "fh0", "fc0", "bh0", "bc0"), (t.grad for t in tensors), strict=True))
    for half, prefix in (("forward_layer", "forward_layer.cell."), ("backward_layer", "")):
        prefix = prefix or "backward_layer.cell."
        wanted |= {prefix + w.name: w.value.grad for w in getattr(layer, half).weights}
    assert set(wanted) == set(found)
    for name, grad in wanted.items():
        np.testing.assert_allclose(found[name], grad.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("masked", [False, True])
def test_rnn_over_stacked_cells_equals_keras(masked: bool) -> None:
    rng = np.random.default_rng(8)
    cells = [keras.layers.LSTMCell(w, dtype="float64") for w in (H, 2)]
    stack = keras.layers.StackedRNNCells(cells, dtype="float64")
    layer = keras.layers.RNN(stack, return_sequences=True, return_state=True, dtype="float64")
    layer.build((N, L, D))
    randomise(layer, rng)
    params: dict[str, np.ndarray] = {}
    for k, cell in enumerate(cells):
        params |= cell_params(cell, f"cell.cells.{k}.")
    x = draw(rng, N, L, D)
    states = [[draw(rng, N, H), draw(rng, N, H)], [draw(rng, N, 2), draw(rng, N, 2)]]
    mask = MASK if masked else None
    live = [[torch.tensor(s) for s in pair] for pair in states]
    theirs = layer(x, initial_state=live, mask=None if mask is None else torch.tensor(mask))
    ours = ORACLES["keras.layers.RNN"](layer.get_config(), params, x, states, mask)
    close(ours, theirs)


def test_cell_equals_keras() -> None:
    rng = np.random.default_rng(9)
    cell = keras.layers.LSTMCell(H, dtype="float64")
    cell.build((N, D))
    randomise(cell, rng)
    x, h, c = draw(rng, N, D), draw(rng, N, H), draw(rng, N, H)
    theirs = cell(torch.tensor(x), [torch.tensor(h), torch.tensor(c)])
    close(ORACLES["keras.layers.LSTMCell"]({}, cell_params(cell), x, [h, c]), theirs)


def test_one_step_inputs_leave_out_masked_steps() -> None:
    rng = np.random.default_rng(10)
    options = {"return_sequences": True, "go_backwards": True}
    _, params = built(options, rng)
    inputs = (draw(rng, N, L, D), [draw(rng, N, H), draw(rng, N, H)], MASK)
    y = ORACLES["keras.layers.LSTM"](options, params, *inputs)[:, ::-1]
    single = ONE_STEP["keras.layers.LSTM"](options, params, inputs)
    again = ORACLES["keras.layers.LSTM"](options, params, *single)
    np.testing.assert_allclose(again[:, 0], y[MASK], rtol=0, atol=1e-15)


def test_a_wrong_slope_is_seen() -> None:
    rng = np.random.default_rng(11)
    layer, params = built({"recurrent_activation": "hard_sigmoid"}, rng)
    x = draw(rng, N, L, D)
    wrong = keras_lstm(params, x, recurrent_activation="hard_sigmoid_keras2")
    assert np.abs(wrong - layer(x).detach().numpy()).max() > 1e-3
