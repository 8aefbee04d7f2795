"""LSTM, over its whole argument space, gives Keras's outputs and Keras's gradients."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ACTIVATIONS = (
    "tanh", "sigmoid", "relu", "hard_sigmoid", "linear", "elu", "selu", "softplus", "softsign",
    "silu", "gelu", "mish", "leaky_relu", "hard_silu", "hard_tanh", "softmax", "sparse_sigmoid",
)  # fmt: skip
MASKS = (None, "right padded", "ragged", "empty row", "first step", "last step")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    flag = st.booleans()
    return {
        "units": draw(st.sampled_from((2, 3, 5))),
        "sizes": draw(st.sampled_from(((4, 3, 1), (6, 5, 4), (1, 4, 3), (5, 1, 2)))),
        "flags": {
            name: draw(flag)
            for name in (
                "use_bias", "return_sequences", "return_state", "go_backwards", "unroll",
                "zero_output_for_mask", "unit_forget_bias",
            )
        },
        "activation": draw(st.sampled_from(ACTIVATIONS)),
        "recurrent_activation": draw(st.sampled_from(ACTIVATIONS)),
        "implementation": draw(st.sampled_from((1, 2))),
        "use_cudnn": draw(st.sampled_from(("auto", False))),
        "mask": draw(st.sampled_from(MASKS)),
        "with_states": draw(flag),
        "seed": draw(st.integers(0, 10_000)),
    }  # fmt: skip


def twin_and_question(twins: SimpleNamespace, case: dict[str, Any]) -> tuple[Any, Any]:
    N, L, D = case["sizes"]
    H, seed, flags = case["units"], case["seed"], case["flags"]

    def make(lib: Any, dtype: str) -> Any:
        options = dict(flags)
        if lib is not twins.ours and case["mask"] and flags.get("go_backwards"):
            options["unroll"] = False  # Keras on torch fails to unroll backwards under a mask
        return lib.layers.LSTM(
            H,
            activation=case["activation"],
            recurrent_activation=case["recurrent_activation"],
            implementation=case["implementation"],
            use_cudnn=case["use_cudnn"],
            dtype=dtype,
            **options,
        )

    states = [twins.distinct((N, H), seed + 50 + k) for k in range(2)]
    question = twins.Question(
        twins.distinct((N, L, D), seed + 40),
        states if case["with_states"] else None,
        twins.random_mask(case["mask"], N, L, seed),
        seed,
    )
    return twins.build(make, (N, L, D), seed), question


@given(case=cases())
def test_any_arguments_give_keras_outputs_and_gradients(
    twins: SimpleNamespace, case: dict[str, Any]
) -> None:
    twin, question = twin_and_question(twins, case)
    twin.assert_same(question)


BASE: dict[str, Any] = {
    "units": 4,
    "sizes": (3, 6, 5),
    "flags": {"return_sequences": True, "return_state": True},
    "activation": "tanh",
    "recurrent_activation": "sigmoid",
    "implementation": 2,
    "use_cudnn": "auto",
    "mask": None,
    "with_states": True,
    "seed": 3,
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("go_backwards", [False, True])
@pytest.mark.parametrize("zero_output_for_mask", [False, True])
def test_every_kind_of_mask(
    twins: SimpleNamespace, mask: str | None, go_backwards: bool, zero_output_for_mask: bool
) -> None:
    more = {"go_backwards": go_backwards, "zero_output_for_mask": zero_output_for_mask}
    case = BASE | {"mask": mask, "flags": BASE["flags"] | more}
    twin, question = twin_and_question(twins, case)
    twin.assert_same(question)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 3), (2, 3)])
def test_two_swapped_gates_are_caught(twins: SimpleNamespace, first: int, second: int) -> None:
    def swapped(layer: Any, question: Any) -> Any:
        for variable in layer.weights:
            blocks = np.split(variable.numpy(), 4, axis=-1)
            blocks[first], blocks[second] = blocks[second], blocks[first]
            variable.assign(np.concatenate(blocks, axis=-1))
        return twins.ask_ours(layer, question)

    twin, question = twin_and_question(twins, BASE)
    twin.assert_caught(question, swapped)


def test_a_dropped_bias_a_transposed_kernel_and_swapped_states_are_caught(
    twins: SimpleNamespace,
) -> None:
    def biasless(layer: Any, question: Any) -> Any:
        layer.weights[2].assign(0 * layer.weights[2].numpy())
        return twins.ask_ours(layer, question)

    def transposed(layer: Any, question: Any) -> Any:
        kernel = layer.weights[1].numpy()  # [H,4H]: each gate's square block
        blocks = [block.T for block in np.split(kernel, 4, axis=-1)]
        layer.weights[1].assign(np.concatenate(blocks, axis=-1))
        return twins.ask_ours(layer, question)

    def exchanged(layer: Any, question: Any) -> Any:
        states = question.states[::-1]
        return twins.ask_ours(layer, dataclasses.replace(question, states=states))

    twin, question = twin_and_question(twins, BASE)
    for mistake in (biasless, transposed, exchanged):
        twin.assert_caught(question, mistake)


@pytest.mark.parametrize("change", [{"go_backwards": True}, {"recurrent_activation": "tanh"}])
def test_an_argument_that_is_ignored_is_caught(
    twins: SimpleNamespace, change: dict[str, Any]
) -> None:
    twin, question = twin_and_question(twins, BASE)
    other = BASE | {k: v for k, v in change.items() if k in BASE}
    other["flags"] = BASE["flags"] | {k: v for k, v in change.items() if k not in BASE}
    changed, _ = twin_and_question(twins, other)

    def ignored(layer: Any, question: Any) -> Any:
        changed.ours.set_weights(layer.get_weights())
        return twins.ask_ours(changed.ours, question)

    twin.assert_caught(question, ignored)


def test_an_ignored_mask_is_caught(twins: SimpleNamespace) -> None:
    twin, question = twin_and_question(twins, BASE | {"mask": "ragged"})

    def unmasked(layer: Any, question: Any) -> Any:
        return twins.ask_ours(layer, dataclasses.replace(question, mask=None))

    twin.assert_caught(question, unmasked)


def test_keras_2_slope_of_hard_sigmoid_is_caught(twins: SimpleNamespace) -> None:
    case = BASE | {"recurrent_activation": "hard_sigmoid"}
    twin, question = twin_and_question(twins, case)
    new = twin.ours.cell.recurrent_activation

    def with_keras_2s(layer: Any, question: Any) -> Any:
        layer.cell.recurrent_activation = twins.ours.activations.get("hard_sigmoid_keras2")
        answer = twins.ask_ours(layer, question)
        layer.cell.recurrent_activation = new
        return answer

    twin.assert_caught(question, with_keras_2s)
