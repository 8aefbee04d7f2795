"""Numbers that Keras publishes in its own tests (keras 3.15, layers/rnn/*_test.py), literally."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.keras import initializers, layers

TOLERANCE = 1e-5  # the one Keras's tests state for these digits


def close(output: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(output), expected, atol=TOLERANCE, rtol=TOLERANCE)


def lstm(units: int, **options: Any) -> layers.LSTM:
    return layers.LSTM(
        units,
        kernel_initializer=initializers.Constant(0.01),
        recurrent_initializer=initializers.Constant(0.02),
        bias_initializer=initializers.Constant(0.03),
        **options,
    )


def count_up(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype("float32")


def rows(*values: float, width: int) -> np.ndarray:
    return np.repeat(np.array(values)[:, None], width, axis=1)


@pytest.mark.parametrize("implementation", [1, 2])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.6288687, 0.86899155, 0.9460773)),
        ({"go_backwards": True}, (0.35622165, 0.74789524, 0.8872726)),
        ({"unroll": True}, (0.6288687, 0.86899155, 0.9460773)),
        ({"unit_forget_bias": False}, (0.57019705, 0.8661914, 0.9459622)),
        ({"use_bias": False}, (0.54986924, 0.86226785, 0.9443936)),
    ],
)
def test_lstm_correctness(
    implementation: int, options: dict[str, Any], expected: tuple[float, ...]
) -> None:
    layer = lstm(3, implementation=implementation, **options)
    close(layer(count_up(3, 6, 4)), rows(*expected, width=3))


def test_lstm_statefulness() -> None:
    sequence, layer = count_up(2, 3, 4), lstm(4, stateful=True)
    expected = rows(0.3124785, 0.6863672, width=4)
    layer(sequence)
    close(layer(sequence), expected)
    layer.reset_state()
    layer(sequence)
    close(layer(sequence), expected)


@pytest.mark.parametrize(
    ("go_backwards", "expected"),
    [
        (False, [[0.20574439, 0.3558822], [0.64930826, 0.66276]]),
        (True, [[0.13281618, 0.2790356], [0.5839337, 0.5992567]]),
    ],
)
def test_lstm_initial_state(go_backwards: bool, expected: list[list[float]]) -> None:
    states = [count_up(2, 2), count_up(2, 2)]
    close(lstm(2, go_backwards=go_backwards)(count_up(2, 4, 3), initial_state=states), expected)


MASK = np.array([[True, True, True, False], [True, True, False, False]])


@pytest.mark.parametrize(
    ("zero", "tail"), [(False, (0.11755939, 0.28556206, 0.28556206)), (True, (0.0, 0.0, 0.0))]
)
def test_lstm_masking(zero: bool, tail: tuple[float, float, float]) -> None:
    output = lstm(2, return_sequences=True, zero_output_for_mask=zero)(count_up(2, 4, 3), mask=MASK)
    close(output[0], rows(0.01588910, 0.05552048, 0.11755939, tail[0], width=2))
    close(output[1], rows(0.14185596, 0.28556206, tail[1], tail[2], width=2))


def test_lstm_masking_of_the_last_output_and_backwards() -> None:
    sequence = count_up(2, 4, 3)
    close(lstm(2, unroll=True)(sequence, mask=MASK), rows(0.11755939, 0.28556206, width=2))
    backwards = np.array([[False, True, True, True], [False, False, True, True]])
    close(
        lstm(2, go_backwards=True)(sequence, mask=backwards),
        rows(0.15341201, 0.3844719, width=2),
    )


def test_bidirectional_statefulness() -> None:
    sequence, layer = count_up(2, 4, 3), layers.Bidirectional(layer=lstm(2, stateful=True))
    expected = [
        [0.26234663, 0.26234663, 0.16959146, 0.16959146],
        [0.6137073, 0.6137073, 0.5381646, 0.5381646],
    ]
    layer(sequence)
    close(layer(sequence), expected)
    layer.reset_state()
    layer(sequence)
    close(layer(sequence), expected)


def test_bidirectional_four_initial_states() -> None:
    states = [count_up(2, 2) * k for k in (1, 2, 3, 4)]
    expected = [
        [0.20794602, 0.4577124, 0.14046375, 0.48191673],
        [0.6682636, 0.6711909, 0.60943645, 0.60950446],
    ]
    close(layers.Bidirectional(lstm(2))(count_up(2, 4, 3), initial_state=states), expected)


def test_bidirectional_return_state() -> None:
    output, *states = layers.Bidirectional(lstm(2, return_state=True))(count_up(2, 4, 3))
    h, c = (0.1990008, 0.52335435), (0.35567185, 1.0492687)
    h_back, c_back = (0.12659755, 0.44717982), (0.2501858, 0.941473)
    close(output, np.concatenate([rows(*h, width=2), rows(*h_back, width=2)], axis=1))
    for state, expected in zip(states, (h, c, h_back, c_back), strict=True):
        close(state, rows(*expected, width=2))


class OneState(layers.Layer):
    """The cell of Keras's own RNN tests."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.units), "ones", name="kernel")
        self.recurrent_kernel = self.add_weight((self.units, self.units), "ones", name="recurrent")

    def call(self, inputs: mx.array, states: Any) -> Any:
        output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
        return output, [output]


def test_rnn_over_a_cell_of_ones_own() -> None:
    ones = np.ones((1, 2, 3))
    close(layers.RNN(OneState(2), return_sequences=True)(ones), [[[3.0, 3.0], [9.0, 9.0]]])
    layer = layers.RNN(OneState(2), return_state=True)
    for output in layer(ones):
        close(output, [[9.0, 9.0]])
    close(layer(np.ones((2, 3, 2))[:, :, [0, 1, 1]], initial_state=np.ones((2, 2)))[0][0], [29, 29])
    stateful = layers.RNN(OneState(2), stateful=True)
    stateful(ones)
    close(stateful(ones), [[45.0, 45.0]])
    close(layers.RNN(OneState(2), go_backwards=True)(count_up(2, 3, 4)), [[202.0] * 2, [538.0] * 2])


def test_rnn_over_a_stack_of_such_cells() -> None:
    layer = layers.RNN([OneState(3), OneState(2)], return_sequences=True, return_state=True)
    output, first, second = layer(count_up(2, 3, 4))
    close(output[..., 0], [[18.0, 156.0, 786.0], [162.0, 1020.0, 4386.0]])
    close(first, rows(158.0, 782.0, width=3))
    close(second, rows(786.0, 4386.0, width=2))


def test_the_numbers_tell_gates_apart_from_wrong_ones() -> None:
    layer = lstm(3)
    layer.build((None, None, 4))
    bias = layer.cell.bias
    layer.cell.bias = mx.concatenate([bias[3:6], bias[:3], bias[6:]])  # the ones move to i
    with pytest.raises(AssertionError):
        close(layer(count_up(3, 6, 4)), rows(0.6288687, 0.86899155, 0.9460773, width=3))
