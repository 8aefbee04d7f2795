"""Bidirectional, over merge modes, masks and its own backward layer, is Keras's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

N, L, D, H = 4, 5, 3, 4
MERGE_MODES = ("concat", "sum", "mul", "ave", None)
MASKS = (None, "right padded", "ragged", "empty row", "first step")


def make_bidirectional(
    lib: Any,
    dtype: str,
    merge_mode: str | None,
    own_backward: bool,
    forward_backwards: bool = False,
    **flags: Any,
) -> Any:
    layer = lib.layers.LSTM(H, dtype=dtype, go_backwards=forward_backwards, **flags)
    backward = None
    if own_backward:
        backward = lib.layers.LSTM(
            H,
            activation="softsign",
            recurrent_activation="hard_sigmoid",
            go_backwards=not forward_backwards,
            use_bias=False,
            dtype=dtype,
            **flags,
        )
    return lib.layers.Bidirectional(layer, merge_mode, backward_layer=backward, dtype=dtype)


@given(
    merge_mode=st.sampled_from(MERGE_MODES),
    own_backward=st.booleans(),
    flags=st.fixed_dictionaries(
        {
            name: st.booleans()
            for name in ("return_sequences", "return_state", "zero_output_for_mask")
        }
    ),
    mask=st.sampled_from(MASKS),
    with_states=st.booleans(),
    seed=st.integers(0, 5000),
)
def test_any_arguments_give_keras_outputs_and_gradients(
    twins: SimpleNamespace,
    merge_mode: str | None,
    own_backward: bool,
    flags: dict[str, bool],
    mask: str | None,
    with_states: bool,
    seed: int,
) -> None:
    twin = twins.build(
        lambda lib, dtype: make_bidirectional(lib, dtype, merge_mode, own_backward, **flags),
        (N, L, D),
        seed,
    )
    states = [twins.distinct((N, H), seed + k) for k in range(4)]
    question = twins.Question(
        twins.distinct((N, L, D), seed + 40),
        states if with_states else None,
        twins.random_mask(mask, N, L, seed),
        seed,
    )
    twin.assert_same(question)


def test_a_forward_layer_that_goes_backwards(twins: SimpleNamespace) -> None:
    twin = twins.build(
        lambda lib, dtype: make_bidirectional(
            lib, dtype, "concat", True, forward_backwards=True, return_sequences=True
        ),
        (N, L, D),
    )
    twin.assert_same(twins.Question(twins.distinct((N, L, D), 3)))


@pytest.mark.parametrize("return_sequences", [False, True])
def test_an_unreversed_direction_and_swapped_directions_are_caught(
    twins: SimpleNamespace, return_sequences: bool
) -> None:
    twin = twins.build(
        lambda lib, dtype: make_bidirectional(
            lib, dtype, "concat", False, return_sequences=return_sequences
        ),
        (N, L, D),
    )
    question = twins.Question(twins.distinct((N, L, D), 3))

    def unreversed(layer: Any, question: Any) -> Any:
        layer.backward_layer.go_backwards = False
        answer = twins.ask_ours(layer, question)
        layer.backward_layer.go_backwards = True
        return answer

    def swapped(layer: Any, question: Any) -> Any:
        weights = layer.get_weights()
        layer.set_weights(weights[3:] + weights[:3])
        return twins.ask_ours(layer, question)

    twin.assert_caught(question, unreversed)
    twin.assert_caught(question, swapped)


def test_masked_outputs_are_zero_although_the_layer_says_otherwise(
    twins: SimpleNamespace,
) -> None:
    layer = make_bidirectional(twins.ours, "float32", "concat", False, return_sequences=True)
    assert layer.forward_layer.zero_output_for_mask is True
    layer = make_bidirectional(twins.ours, "float32", "concat", False, zero_output_for_mask=True)
    assert layer.forward_layer.zero_output_for_mask is False


def test_the_wrapped_layer_is_copied_and_named_as_keras_names_it(twins: SimpleNamespace) -> None:
    inner = twins.ours.layers.LSTM(H, name="inner")
    inner.build((N, L, D))
    wrapped = twins.ours.layers.Bidirectional(inner, name="both")
    assert [wrapped.forward_layer.name, wrapped.backward_layer.name] == [
        "forward_inner",
        "backward_inner",
    ]
    assert wrapped.forward_layer is not inner
    assert wrapped.forward_layer.built  # Keras carries the build shapes over, not the weights
    before = inner.get_weights()[0]
    assert not (before == wrapped.forward_layer.get_weights()[0]).all()
