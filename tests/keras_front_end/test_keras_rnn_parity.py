"""RNN over cells, stacks and cells of one's own; stateful layers; the same as Keras's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

N, L, D = 4, 5, 3
MASKS = (None, "ragged", "empty row", "first step", "last step")


def own_cell(lib: Any, units: int, dtype: str) -> Any:
    """The cell of Keras's documentation, on either library: one state, no get_initial_state."""

    class MinimalRNNCell(lib.layers.Layer):  # type: ignore[misc]
        def __init__(self, units: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.units = self.state_size = units

        def build(self, input_shape: Any) -> None:
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
            self.recurrent_kernel = self.add_weight(
                shape=(self.units, self.units), name="recurrent_kernel"
            )

        def call(self, inputs: Any, states: Any) -> Any:
            output = inputs @ self.kernel + states[0] @ self.recurrent_kernel
            return output, [output]

    return MinimalRNNCell(units, dtype=dtype)


def cells(lib: Any, kind: str, dtype: str) -> Any:
    cell = lib.layers.LSTMCell
    if kind == "one":
        return cell(3, recurrent_activation="hard_sigmoid", dtype=dtype)
    if kind == "list":
        return [cell(3, dtype=dtype), cell(5, activation="elu", dtype=dtype), cell(2, dtype=dtype)]
    if kind == "stack":
        inner = [cell(5, use_bias=False, dtype=dtype), cell(3, implementation=1, dtype=dtype)]
        return lib.layers.StackedRNNCells(inner, dtype=dtype)
    if kind == "own":
        return own_cell(lib, 3, dtype)
    return [own_cell(lib, 4, dtype), cell(3, dtype=dtype)]  # mixed


WIDTHS = {"one": [3, 3], "list": [3, 3, 5, 5, 2, 2], "stack": [5, 5, 3, 3], "own": [3],
          "mixed": [4, 3, 3]}  # fmt: skip
FLAGS = ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask")


@given(
    kind=st.sampled_from(sorted(WIDTHS)),
    flags=st.fixed_dictionaries({name: st.booleans() for name in FLAGS}),
    mask=st.sampled_from(MASKS),
    with_states=st.booleans(),
    seed=st.integers(0, 5000),
)
def test_any_cells_give_keras_outputs_and_gradients(
    twins: SimpleNamespace,
    kind: str,
    flags: dict[str, bool],
    mask: str | None,
    with_states: bool,
    seed: int,
) -> None:
    twin = twins.build(
        lambda lib, dtype: lib.layers.RNN(cells(lib, kind, dtype), dtype=dtype, **flags),
        (N, L, D),
        seed,
    )
    states = [twins.distinct((N, w), seed + k) for k, w in enumerate(WIDTHS[kind])]
    question = twins.Question(
        twins.distinct((N, L, D), seed + 40),
        states if with_states else None,
        twins.random_mask(mask, N, L, seed),
        seed,
    )
    twin.assert_same(question)


@pytest.mark.parametrize("kind", sorted(WIDTHS))
def test_swapped_kernels_are_caught(twins: SimpleNamespace, kind: str) -> None:
    twin = twins.build(
        lambda lib, dtype: lib.layers.RNN(cells(lib, kind, dtype), dtype=dtype), (N, L, D), 5
    )
    question = twins.Question(twins.distinct((N, L, D), 9))

    def swapped(layer: Any, question: Any) -> Any:
        layer.weights[0].assign(layer.weights[0].numpy()[::-1])
        return twins.ask_ours(layer, question)

    twin.assert_caught(question, swapped)


def started(lib: Any, kind: str, dtype: str) -> Any:
    """A layer whose cell begins elsewhere than at zero."""

    class Started(getattr(lib.layers, kind)):  # type: ignore[misc]
        def get_initial_state(self, batch_size: int | None = None) -> Any:
            return [state + 0.5 for state in super().get_initial_state(batch_size=batch_size)]

    return lib.layers.RNN(Started(3, dtype=dtype), return_sequences=True, dtype=dtype)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "SimpleRNNCell"])
def test_a_cell_s_own_initial_states_are_taken(twins: SimpleNamespace, kind: str) -> None:
    twin = twins.build(lambda lib, dtype: started(lib, kind, dtype), (N, L, D), 5)
    question = twins.Question(twins.distinct((N, L, D), 9))
    twin.assert_same(question)

    def from_zero(layer: Any, question: Any) -> Any:
        type(layer.cell).get_initial_state = type(layer.cell).__mro__[1].get_initial_state
        return twins.ask_ours(layer, question)

    twin.assert_caught(question, from_zero)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
@pytest.mark.parametrize("method", ["get_initial_state", "inner_loop"])
def test_so_are_a_layer_s(twins: SimpleNamespace, kind: str, method: str) -> None:
    def make(lib: Any, dtype: str) -> Any:
        class Started(getattr(lib.layers, kind)):  # type: ignore[misc]
            pass

        def from_half(self: Any, batch_size: int) -> Any:
            return [state + 0.5 for state in super(Started, self).get_initial_state(batch_size)]

        def moved(
            self: Any, sequences: Any, initial_state: Any, mask: Any, training: bool = False
        ) -> Any:
            states = [state + 0.5 for state in initial_state]
            last, outputs, states = super(Started, self).inner_loop(
                sequences=sequences, initial_state=states, mask=mask, training=training
            )
            return last, outputs * 2, states

        setattr(Started, method, {"get_initial_state": from_half, "inner_loop": moved}[method])
        return Started(3, return_sequences=True, dtype=dtype)

    twin = twins.build(make, (N, L, D), 5)
    question = twins.Question(twins.distinct((N, L, D), 9))
    twin.assert_same(question)

    def plain(layer: Any, question: Any) -> Any:
        setattr(type(layer), method, getattr(type(layer).__mro__[1], method))
        return twins.ask_ours(layer, question)

    twin.assert_caught(question, plain)


@pytest.mark.parametrize("kind", ["one", "list", "own"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_stateful_layers_go_on_where_they_stopped(
    twins: SimpleNamespace, kind: str, wrapped: bool
) -> None:
    if wrapped and kind != "one":
        kind = "one"

    def make(lib: Any, dtype: str) -> Any:
        if wrapped:
            inner = lib.layers.LSTM(3, stateful=True, return_sequences=True, dtype=dtype)
            return lib.layers.Bidirectional(inner, dtype=dtype)
        return lib.layers.RNN(cells(lib, kind, dtype), stateful=True, dtype=dtype)

    twin = twins.build(make, (N, L, D), 2)
    inputs = [twins.distinct((N, L, D), 60 + call) for call in range(3)]
    ours = {"out": np.stack([np.array(twin.ours(x)) for x in inputs])}
    source, truth = (
        {"out": np.stack([layer(x.astype(layer.dtype)).detach().numpy() for x in inputs])}
        for layer in (twin.source, twin.truth)
    )
    assert twins.judged(ours, source, truth)["out"].passed
    forgetful = {"out": np.stack([ours["out"][0]] * 3)}
    assert not twins.judged(forgetful, source, truth)["out"].passed
    twin.ours.reset_state()
    np.testing.assert_array_equal(np.array(twin.ours(inputs[0])), ours["out"][0])


def test_a_cell_that_is_no_layer_runs(twins: SimpleNamespace) -> None:
    class Sum:
        state_size = 2

        def call(self, inputs: Any, states: Any) -> Any:
            return inputs + states[0], [inputs + states[0]]

    x = twins.distinct((N, L, 2), 1)
    for cell in (Sum(), [Sum(), Sum()]):
        layer = twins.ours.layers.RNN(cell)
        expected = np.cumsum(x, axis=1)
        expected = np.cumsum(expected, axis=1) if isinstance(cell, list) else expected
        np.testing.assert_allclose(np.array(layer(x)), expected[:, -1], rtol=1e-5, atol=1e-6)
