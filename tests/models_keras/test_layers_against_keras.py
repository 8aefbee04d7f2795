"""Every layer that surrounds LSTMs: values, gradients, configs and signatures of live Keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import lstm_bridge.keras as ours_keras
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.keras.masks import get_keras_mask

Make = Callable[[Any, str], Any]
Case = tuple[Make, list[tuple[int, ...]], dict[str, Any]]

MASK = np.array([[True, True, False, True, False], [True, False, True, True, True]] * 2)[:3]


def case(name: str, *shapes: tuple[int, ...], call: dict[str, Any] | None = None, **options: Any):
    """A layer by its class and options, called on inputs of these shapes."""
    return (
        lambda lib, dtype: getattr(lib.layers, name)(**options, dtype=dtype),
        list(shapes),
        call or {},
    )


SEQ, IMG = (3, 5, 4), (2, 6, 5, 4)
CASES: dict[str, Case] = {
    "Dense": case("Dense", SEQ, units=3, activation="gelu"),
    "Dense without bias": case("Dense", (3, 4), units=3, use_bias=False),
    "Activation": case("Activation", SEQ, activation="hard_sigmoid"),
    "Activation softmax": case("Activation", SEQ, activation="softmax"),
    "LeakyReLU": case("LeakyReLU", SEQ, negative_slope=0.2),
    "ELU": case("ELU", SEQ, alpha=0.7),
    "ReLU": case("ReLU", SEQ, max_value=0.8, negative_slope=0.1, threshold=0.2),
    "Softmax": case("Softmax", SEQ, axis=1),
    "Softmax two axes": case("Softmax", SEQ, axis=[1, 2]),
    "PReLU": case("PReLU", SEQ),
    "PReLU shared": case("PReLU", SEQ, shared_axes=[1]),
    "BatchNormalization": case("BatchNormalization", SEQ),
    "BatchNormalization axis 1": case("BatchNormalization", SEQ, axis=1, scale=False),
    "BatchNormalization training": case("BatchNormalization", SEQ, call={"training": True}),
    "BatchNormalization training masked": case(
        "BatchNormalization", SEQ, call={"training": True, "mask": MASK}, center=False
    ),
    "LayerNormalization": case("LayerNormalization", SEQ, epsilon=1e-5),
    "LayerNormalization two axes": case("LayerNormalization", SEQ, axis=[1, 2], center=False),
    "UnitNormalization": case("UnitNormalization", SEQ, axis=1),
    "Conv1D": case("Conv1D", SEQ, filters=6, kernel_size=3, activation="tanh"),
    "Conv1D same strided": case(
        "Conv1D", (3, 8, 4), filters=6, kernel_size=3, strides=2, padding="same"
    ),
    "Conv1D causal dilated": case(
        "Conv1D", (3, 8, 4), filters=6, kernel_size=3, dilation_rate=2, padding="causal"
    ),
    "Conv1D groups": case("Conv1D", SEQ, filters=6, kernel_size=2, groups=2, use_bias=False),
    "Conv1D even same": case("Conv1D", SEQ, filters=3, kernel_size=4, padding="same"),
    "Conv2D": case("Conv2D", IMG, filters=3, kernel_size=(3, 2)),
    "Conv2D same strided": case(
        "Conv2D", IMG, filters=3, kernel_size=3, strides=(2, 1), padding="same"
    ),
    "Conv2D dilated": case("Conv2D", IMG, filters=3, kernel_size=2, dilation_rate=(2, 3)),
    "SeparableConv1D": case("SeparableConv1D", SEQ, filters=6, kernel_size=3, depth_multiplier=2),
    "SeparableConv1D same": case(
        "SeparableConv1D", SEQ, filters=6, kernel_size=2, padding="same", activation="relu"
    ),
    "MaxPooling1D": case("MaxPooling1D", SEQ),
    "MaxPooling1D same": case("MaxPooling1D", SEQ, pool_size=3, strides=2, padding="same"),
    "AveragePooling1D": case("AveragePooling1D", SEQ, pool_size=2, strides=1),
    "MaxPooling2D": case("MaxPooling2D", IMG, pool_size=(2, 3), padding="same"),
    "AveragePooling2D": case("AveragePooling2D", IMG, pool_size=2),
    "GlobalMaxPooling1D": case("GlobalMaxPooling1D", SEQ),
    "GlobalAveragePooling1D": case("GlobalAveragePooling1D", SEQ, keepdims=True),
    "GlobalAveragePooling1D masked": case("GlobalAveragePooling1D", SEQ, call={"mask": MASK}),
    "GlobalMaxPooling2D": case("GlobalMaxPooling2D", IMG, keepdims=True),
    "GlobalAveragePooling2D": case("GlobalAveragePooling2D", IMG),
    "Flatten": case("Flatten", IMG),
    "Reshape": case("Reshape", SEQ, target_shape=(2, -1)),
    "Permute": case("Permute", IMG, dims=(3, 1, 2)),
    "RepeatVector": case("RepeatVector", (3, 4), n=3),
    "UpSampling1D": case("UpSampling1D", SEQ, size=3),
    "ZeroPadding1D": case("ZeroPadding1D", SEQ, padding=(1, 2)),
    "Cropping1D": case("Cropping1D", SEQ, cropping=(1, 2)),
    "ActivityRegularization": case("ActivityRegularization", SEQ, l1=0.5, l2=0.25),
    "Dropout": case("Dropout", SEQ, rate=0.5),
    "SpatialDropout1D": case("SpatialDropout1D", SEQ, rate=0.5),
    "GaussianNoise": case("GaussianNoise", SEQ, stddev=0.5),
    "GaussianDropout": case("GaussianDropout", SEQ, rate=0.5),
    "AlphaDropout": case("AlphaDropout", SEQ, rate=0.5),
    "Add": case("Add", SEQ, SEQ, SEQ),
    "Subtract": case("Subtract", SEQ, (3, 1, 4)),
    "Multiply": case("Multiply", SEQ, (3, 4)),
    "Average": case("Average", SEQ, SEQ, SEQ),
    "Maximum": case("Maximum", SEQ, SEQ),
    "Minimum": case("Minimum", SEQ, SEQ),
    "Concatenate": case("Concatenate", SEQ, (3, 2, 4), axis=1),
    "Dot": case("Dot", SEQ, (3, 6, 4), axes=2),
    "Dot normalized": case("Dot", (3, 4), (3, 4), axes=-1, normalize=True),
    "Dot of four axes": case("Dot", (3, 2, 4, 5), (3, 5, 6), axes=(3, 1)),
    "Attention": case("Attention", SEQ, (3, 6, 4)),
    "Attention scaled with key": case("Attention", SEQ, (3, 6, 2), (3, 6, 4), use_scale=True),
    "Attention concat": case("Attention", SEQ, (3, 6, 4), score_mode="concat", use_scale=True),
    "Attention masked causal": case(
        "Attention", SEQ, SEQ, call={"mask": [MASK, MASK], "use_causal_mask": True}
    ),
    "AdditiveAttention": case("AdditiveAttention", SEQ, (3, 6, 4)),
    "AdditiveAttention masked": case(
        "AdditiveAttention", SEQ, SEQ, call={"mask": [MASK, MASK]}, use_scale=False
    ),
    "Rescaling": case("Rescaling", SEQ, scale=0.5, offset=-0.2),
    "Normalization": case("Normalization", SEQ, mean=[0.1, 0.2, 0.3, 0.4], variance=[1, 2, 3, 4]),
    "Normalization inverted": case("Normalization", SEQ, mean=0.3, variance=0.5, invert=True),
    "GRU": case("GRU", SEQ, units=5, return_sequences=True),
    "GRU reset before": case("GRU", SEQ, units=5, reset_after=False, return_state=True),
    "GRU backwards masked": case(
        "GRU", SEQ, call={"mask": MASK}, units=3, go_backwards=True, return_sequences=True
    ),
    "GRU other activations": case(
        "GRU", SEQ, units=3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False
    ),
    "SimpleRNN": case("SimpleRNN", SEQ, units=5, return_sequences=True, return_state=True),
    "SimpleRNN masked": case(
        "SimpleRNN", SEQ, call={"mask": MASK}, units=3, return_sequences=True,
        zero_output_for_mask=True,
    ),
    "ConvLSTM1D": case(
        "ConvLSTM1D", (2, 4, 6, 3), filters=2, kernel_size=3, padding="same", return_sequences=True
    ),
    "ConvLSTM2D": case("ConvLSTM2D", (2, 4, 5, 6, 3), filters=2, kernel_size=(2, 3)),
    "ConvLSTM2D strided state": case(
        "ConvLSTM2D", (2, 3, 5, 6, 3), filters=2, kernel_size=2, strides=2, return_state=True,
        recurrent_activation="hard_sigmoid", go_backwards=True,
    ),
}  # fmt: skip


def answers(parity: Any, make: Make, shapes: list[tuple[int, ...]], call: Any, seed: int):
    layers = [make(keras, "float32"), make(keras, "float64"), make(ours_keras, "float32")]
    nested = len(shapes) > 1
    for layer in layers:
        if not layer.built:
            layer.build([tuple(s) for s in shapes] if nested else shapes[0])
    weights = parity.weights_for(layers[0], seed)
    for layer in layers:
        assert [tuple(v.shape) for v in layer.weights] == [w.shape for w in weights]
        layer.set_weights(weights)
    inputs = [parity.numbers(s, seed + 50 + k) for k, s in enumerate(shapes)]
    source, truth = (parity.ask_keras(one, inputs, nested, call) for one in layers[:2])
    return (
        layers,
        weights,
        inputs,
        (parity.ask_ours(layers[2], inputs, nested, call), source, truth),
    )


@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_shapes_are_keras_s(parity: Any, name: str) -> None:
    make, shapes, call = CASES[name]

    def run(seed: int) -> dict[str, str]:
        layers, _, _, three = answers(parity, make, shapes, call, seed)
        given = [tuple(s) for s in shapes] if len(shapes) > 1 else shapes[0]
        assert flat(layers[2].compute_output_shape(given)) == [
            s for k, v in three[0].items() if k.startswith("out") for s in v.shape
        ]
        return parity.failures(*three)

    parity.assert_same(run)


def flat(shapes: Any) -> list[int]:
    return [n for s in shapes for n in (flat(s) if isinstance(s, (tuple, list)) else [s])]


@pytest.mark.parametrize("name", CASES)
def test_configs_travel_both_ways(parity: Any, name: str) -> None:
    make, _, _ = CASES[name]
    theirs, ours = make(keras, "float32"), make(ours_keras, "float32")
    again = type(ours).from_config(theirs.get_config())
    config = again.get_config()
    assert config == type(ours).from_config(ours.get_config()).get_config() | {"name": again.name}
    back = type(theirs).from_config({**config, "name": theirs.name}).get_config()
    theirs_config = theirs.get_config()
    for key in back.keys() | theirs_config.keys():
        if not key.endswith(("initializer", "dtype")):
            assert plain(back.get(key)) == plain(theirs_config.get(key)), key


def plain(value: Any) -> Any:
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(
    "name", ["Dense", "GRU", "Conv1D", "BatchNormalization", "Attention concat"]
)
def test_two_weights_swapped_are_noticed(parity: Any, name: str) -> None:
    make, shapes, call = CASES[name]
    layers, weights, inputs, three = answers(parity, make, shapes, call, 3)
    assert parity.failures(*three) == {} or name
    wrong = [w[..., ::-1].copy() if w.ndim else w + 1 for w in weights]
    layers[2].set_weights(wrong)
    off = parity.ask_ours(layers[2], inputs, len(shapes) > 1, call)
    assert "out 0" in parity.failures(off, *three[1:])


@pytest.mark.parametrize("rank", [1, 2])
def test_average_pooling_does_not_count_its_padding(rank: int) -> None:
    """As Keras on TensorFlow and JAX; on torch Keras repeats the border instead."""
    shape = (2, 5, 3) if rank == 1 else (2, 5, 4, 3)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    layer = getattr(ours_keras.layers, f"AveragePooling{rank}D")(3, strides=2, padding="same")
    y = np.array(layer(x))
    for at in np.ndindex(*y.shape[1:-1]):
        # 5 and 4 positions in windows of 3, 2 apart: one of padding in front, none for 4.
        starts = [2 * k - (1 if x.shape[1 + a] == 5 else 0) for a, k in enumerate(at)]
        window = x[(slice(None), *(slice(max(s, 0), s + 3) for s in starts))]
        mean = window.astype(np.float64).mean(axis=tuple(range(1, rank + 1)))
        np.testing.assert_allclose(y[(slice(None), *at)], mean, rtol=2e-6, atol=1e-7)


def multi_head(parity: Any, seed: int, call: dict[str, Any], **options: Any) -> dict[str, str]:
    """MultiHeadAttention takes its arrays as arguments of their own."""
    made = [
        lib.layers.MultiHeadAttention(dtype=dtype, **options)
        for lib, dtype in ((keras, "float32"), (keras, "float64"), (ours_keras, "float32"))
    ]
    shapes = [(2, 4, 6), (2, 5, 3)]
    for layer in made:
        layer.build(*shapes)
    weights = parity.weights_for(made[0], seed)
    for layer in made:
        layer.set_weights(weights)
    inputs = [parity.numbers(s, seed + 9 + k) for k, s in enumerate(shapes)]
    found = []
    for layer, wide in zip(made, (np.float32, np.float64, np.float32), strict=True):
        given = [x.astype(wide) for x in inputs]
        out = layer(*given, **call)
        outs = parity.flatten(out)
        found.append({f"out {k}": np.asarray(_numpy(o), np.float64) for k, o in enumerate(outs)})
    return parity.failures(found[2], *found[:2])


def _numpy(value: Any) -> Any:
    return value.detach().numpy() if hasattr(value, "detach") else value


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"num_heads": 2, "key_dim": 3}, {}),
        (
            {"num_heads": 2, "key_dim": 3, "value_dim": 5, "use_bias": False},
            {"use_causal_mask": True},
        ),
        ({"num_heads": 3, "key_dim": 2, "output_shape": 4}, {"return_attention_scores": True}),
        (
            {"num_heads": 1, "key_dim": 4},
            {"attention_mask": np.random.default_rng(0).random((2, 4, 5)) > 0.4},
        ),
        ({"num_heads": 2, "key_dim": 4, "sliding_window": 2}, {}),
    ],
)  # fmt: skip
def test_multi_head_attention(parity: Any, options: Any, call: Any) -> None:
    parity.assert_same(lambda seed: multi_head(parity, seed, call, **options))


NAMES = sorted({name.split()[0] for name in CASES} | {"GRUCell", "SimpleRNNCell"})


@pytest.mark.parametrize("name", [*NAMES, "MultiHeadAttention"])
@pytest.mark.parametrize("method", ["__init__", "call"])
def test_signatures_are_keras_s(name: str, method: str) -> None:
    def text(lib: Any) -> list[str]:
        parameters = inspect.signature(getattr(getattr(lib.layers, name), method)).parameters
        kept = list(parameters.values())[1:]
        return [f"{p.kind}{p.name}={p.default!r}" for p in kept]

    assert text(ours_keras) == text(keras)


@pytest.mark.parametrize(
    ("name", "options", "low", "high"),
    [
        ("Dropout", {"rate": 0.25}, 0.0, 1 / 0.75),
        ("SpatialDropout1D", {"rate": 0.25}, 0.0, 1 / 0.75),
    ],
)
def test_dropout_drops_its_share_in_training(
    name: str, options: Any, low: float, high: float
) -> None:
    layer = getattr(ours_keras.layers, name)(**options, seed=3)
    x = np.ones((40, 50, 20), np.float32)
    y = np.array(layer(x, training=True))
    assert set(np.unique(y)) == {np.float32(low), np.float32(high)}
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / (40 * 20))
    if name == "SpatialDropout1D":
        assert (y == y[:, :1]).all()
    assert np.array_equal(np.array(layer(x)), x)


@pytest.mark.parametrize(
    ("name", "options"),
    [("GaussianNoise", {"stddev": 0.5}), ("GaussianDropout", {"rate": 0.5}),
     ("AlphaDropout", {"rate": 0.3})],
)  # fmt: skip
def test_noise_has_keras_s_moments_in_training(name: str, options: Any) -> None:
    x = np.random.default_rng(0).normal(0, 1, (200, 500)).astype(np.float32)
    ours = np.array(getattr(ours_keras.layers, name)(**options, seed=1)(x, training=True))
    theirs = getattr(keras.layers, name)(**options, seed=1)(x, training=True).numpy()
    bound = 8 * theirs.std() / np.sqrt(x.size)
    assert abs(ours.mean() - theirs.mean()) < bound
    assert abs(ours.std() - theirs.std()) < bound
    assert not np.array_equal(ours, x)


def test_moving_averages_follow_the_batches() -> None:
    x = np.random.default_rng(0).normal(2, 3, (8, 5, 4)).astype(np.float32)
    ours, theirs = (lib.layers.BatchNormalization(momentum=0.8) for lib in (ours_keras, keras))
    for _ in range(3):
        ours(x, training=True)
        theirs(x, training=True)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)
    assert ours.get_weights()[2].any()


@pytest.mark.parametrize("options", [{"l1": 0.5, "l2": 0.25}, {"l2": 0.3}])
def test_a_penalty_on_what_passes_through_is_keras_s(options: Any) -> None:
    x = np.random.default_rng(0).normal(0, 1, (3, 5, 4)).astype(np.float32)
    truth = options.get("l1", 0) * abs(np.float64(x)) + options.get("l2", 0) * np.float64(x) ** 2
    losses = []
    for lib in (ours_keras, keras):
        layer = lib.layers.ActivityRegularization(**options)
        layer(x)
        losses.append(np.float64([_numpy(loss) for loss in layer.losses]).reshape(-1))
    assert len(losses[0]) == len(losses[1]) == 1
    per_row = truth.sum(keepdims=True).reshape(-1) / len(x)
    assert judge(*losses, per_row).passed
    assert not judge(losses[0] * len(x), losses[1], per_row).passed
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])
    masked = ours_keras.layers.Masking()(x * mask[..., None])
    kept = ours_keras.layers.ActivityRegularization(0.1)(masked)
    assert np.array_equal(np.array(get_keras_mask(kept)), mask)
