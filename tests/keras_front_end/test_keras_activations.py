"""Every activation, by name, gives Keras's values and slopes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import torch

from lstm_bridge.core.activations import ACTIVATIONS
from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.keras import activations

EXTRA = {"threshold": {"threshold": 0.3, "default_value": -0.7}}
OURS_ONLY = {"hard_sigmoid_keras2"}
VARIANTS = {
    "relu": [
        {"negative_slope": 0.3},
        {"max_value": 1.5},
        {"threshold": 0.4},
        {"negative_slope": 0.2, "max_value": 6.0, "threshold": 0.5},
    ],
    "gelu": [{"approximate": True}],
    "elu": [{"alpha": 0.5}],
    "celu": [{"alpha": 2.0}],
    "leaky_relu": [{"negative_slope": 0.01}],
    "squareplus": [{"b": 2}],
    "soft_shrink": [{"threshold": 1.0}],
    "hard_shrink": [{"threshold": 1.0}],
    "softmax": [{"axis": 0}],
    "log_softmax": [{"axis": 0}],
    "sparsemax": [{"axis": 0}],
    "glu": [{"axis": 0}],
}
CASES = [(name, EXTRA.get(name, {})) for name in sorted(set(ACTIVATIONS) - OURS_ONLY)]
CASES += [(name, more) for name, all_of_them in VARIANTS.items() for more in all_of_them]


def samples() -> np.ndarray:
    rng = np.random.default_rng(0)
    # No value at a kink, where the two frameworks may choose different slopes.
    return np.concatenate([rng.normal(0, 1, (40, 6)), rng.normal(0, 5, (40, 6))]).astype(np.float32)


def verdicts(name: str, options: dict[str, float], keras_name: str | None = None) -> list[Verdict]:
    import keras

    x, w = samples(), np.random.default_rng(1).normal(size=(80, 6)).astype(np.float32)
    fn = activations.get(name)
    y = fn(mx.array(x), **options)
    w = w[tuple(slice(n) for n in y.shape)]
    slope = mx.grad(lambda v: (fn(v, **options) * mx.array(w)).sum())(mx.array(x))
    theirs = []
    for dtype in (torch.float32, torch.float64):
        leaf = torch.from_numpy(x).to(dtype).requires_grad_()
        out = keras.activations.get(keras_name or name)(leaf, **options)
        grad = torch.autograd.grad((out * torch.from_numpy(w).to(dtype)).sum(), leaf)[0]
        theirs.append((out.detach().numpy(), grad.numpy()))
    (source, source_slope), (truth, true_slope) = theirs
    return [
        judge(np.array(y), source, truth),
        judge(np.array(slope), source_slope, true_slope),
    ]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_values_and_slopes(name: str, options: dict[str, float]) -> None:
    values, slopes = verdicts(name, options)
    assert values.reason == ""
    # The slope of exp is left to MLX's exp, which on a CPU is 9e-7 off, 5 times torch's error;
    # that it is the function itself is asserted below.
    assert name == "exponential" or slopes.reason == ""


def test_exponential_is_its_own_slope() -> None:
    x = mx.array(samples())
    slope = mx.grad(lambda v: activations.exponential(v).sum())(x)
    assert mx.array_equal(slope, mx.exp(x))


def test_every_keras_activation_is_here_and_no_other() -> None:
    from keras.src.activations import ALL_OBJECTS_DICT

    assert set(ACTIVATIONS) == set(ALL_OBJECTS_DICT) | OURS_ONLY


def test_the_other_hard_sigmoid_and_another_function_are_caught() -> None:
    assert not any(v.passed for v in verdicts("hard_sigmoid_keras2", {}, "hard_sigmoid"))
    assert not any(v.passed for v in verdicts("tanh", {}, "hard_tanh"))


def test_hard_sigmoid_of_keras_2_has_a_slope_of_a_fifth() -> None:
    x = mx.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])
    assert activations.get("hard_sigmoid_keras2")(x).tolist() == pytest.approx(
        [0, 0, 0.3, 0.5, 0.7, 1, 1]
    )


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"threshold"}))
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_dtypes_are_kept_and_extremes_stay_numbers(name: str, dtype: mx.Dtype) -> None:
    x = mx.array([[-30.0, -1.0, 0.0, 1.0, 5.0, 8.0]], dtype=dtype)
    y = activations.get(name)(x)
    assert y.dtype == dtype
    assert mx.all(mx.isfinite(y)).item()
    slope = mx.grad(lambda v: activations.get(name)(v).sum())(x)
    assert mx.all(mx.isfinite(slope)).item()


def test_names_functions_configs_and_none() -> None:
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    assert activations.serialize(activations.get("swish")) == "silu"
    assert activations.serialize(mx.tanh) == "tanh"
    with pytest.raises(UnsupportedError, match="expected one of"):
        activations.get("no_such")
    with pytest.raises(ValueError, match="activation"):
        activations.get(3)
    with pytest.raises(AttributeError):
        _ = activations.no_such
