"""The known mistakes of LSTM ports, as changes to a layer that the oracle then runs.

One list serves twice: the diagnosis looks for the mistake that explains a failure, and the tests
make each mistake on purpose and require that the judgement sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

from lstm_bridge.equivalence.case import Array, Case
from lstm_bridge.equivalence.tree import apply, leaves, rebuild

Variant = tuple[str, Case]
"""What was done wrong, in words, and the case with it done."""


def _gate_names(case: Case) -> str:
    """The gates that stand in blocks, one letter each; one of a simple recurrent layer."""
    name = case.kind.rpartition(".")[2]
    if name.startswith("GRU"):
        return "zrh" if case.kind.startswith("keras.") else "rzn"
    return "h" if name.startswith(("RNN", "SimpleRNN")) and "cell" not in case.options else "ifgo"


def _blocked_axis(case: Case, name: str) -> int | None:
    """The axis along which a parameter holds the gates, or None."""
    leaf = name.rpartition(".")[2]
    if case.kind.startswith("torch.") and not leaf.startswith("weight_hr"):
        return 0
    if case.kind.startswith("keras."):
        return -1
    if case.kind == "mlx.nn.LSTM":
        return 0
    four = ("input_weights", "hidden_weights", "ln_input", "ln_hidden_update")
    return 0 if any(part in four for part in name.split(".")) else None


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2].startswith("bias")


def _is_recurrent(name: str) -> bool:
    return "weight_hh" in name or "recurrent_kernel" in name or name.rpartition(".")[2] == "Wh"


def _is_input_weight(name: str) -> bool:
    leaf = name.rpartition(".")[2]
    return leaf.startswith("weight_ih") or leaf in ("kernel", "Wx")


def _edit(case: Case, change: Callable[[str, Array], Array | None]) -> Case:
    """Change the parameters for which ``change`` returns an array."""
    made = {}
    for name, value in case.params.items():
        new = change(name, value)
        made[name] = value if new is None else new
    return replace(case, params=made)


def _gates(case: Case, change: Callable[[str, list[Array]], list[Array]]) -> Case:
    """Change the gates' blocks of every parameter that has them."""
    count = len(_gate_names(case))

    def one(name: str, value: Array) -> Array | None:
        axis = _blocked_axis(case, name)
        if axis is None:
            return None
        return np.concatenate(change(name, np.split(value, count, axis)), axis)

    return _edit(case, one)


def gate_order(case: Case) -> Iterator[Variant]:
    """The gates' blocks stand in another order."""
    if any(_blocked_axis(case, name) is not None for name in case.params):
        names = _gate_names(case)
        for order in permutations(range(len(names))):
            if order != tuple(range(len(names))):
                read = " ".join(names[k] for k in order)
                yield (
                    f"gates permuted: blocks in the order {read} were taken for {' '.join(names)}",
                    _gates(case, partial(_reordered, order)),
                )
    if ".mLSTM" in case.kind:
        for a, b in ("if", "fo", "io", "kv"):
            yield f"gates permuted: W{a} and W{b} swapped", _swap_names(case, a, b)


def _reordered(order: tuple[int, ...], name: str, parts: list[Array]) -> list[Array]:
    return [parts[k] for k in order]


def _swap_names(case: Case, a: str, b: str) -> Case:
    names = {f"{stem}{x}": f"{stem}{y}" for stem in ("W", "ln_") for x, y in ((a, b), (b, a))}
    return replace(
        case,
        params={
            ".".join(names.get(part, part) for part in name.split(".")): value
            for name, value in case.params.items()
        },
    )


def missing_bias(case: Case) -> Iterator[Variant]:
    """A bias does not reach the gates."""

    def without(label: str) -> Case:
        return _edit(case, lambda n, v: np.zeros_like(v) if _is_bias(n) and label in n else None)

    labels = ["bias_ih", "bias_hh"] if any("bias_ih" in n for n in case.params) else []
    for label in [*labels, "bias"]:
        if any(_is_bias(n) and label in n for n in case.params):
            yield (
                f"a bias missing: {label if label != 'bias' else 'no bias at all'}",
                without(label),
            )


def doubled_bias(case: Case) -> Iterator[Variant]:
    """The bias is counted twice, as when one bias is copied to both of torch's."""
    if any(_is_bias(n) for n in case.params):
        yield "the bias counted twice", _edit(case, lambda n, v: 2 * v if _is_bias(n) else None)


def forget_bias(case: Case) -> Iterator[Variant]:
    """The forget gate's bias is doubled, or its 1 is added once more."""

    def changed(f: Callable[[Array], Array]) -> Case:
        def one(name: str, parts: list[Array]) -> list[Array]:
            # torch has two biases: a 1 that is added belongs to one of them.
            once = _is_bias(name) and "bias_hh" not in name
            return [parts[0], f(parts[1]), *parts[2:]] if once else parts

        return _gates(case, one)

    held = any(_is_bias(n) and _blocked_axis(case, n) is not None for n in case.params)
    if held and len(_gate_names(case)) == 4:
        yield "forget bias: 1 added again to the forget gate's bias", changed(lambda b: b + 1)
        both = _gates(case, lambda n, p: [p[0], 2 * p[1], *p[2:]] if _is_bias(n) else p)
        yield "forget bias doubled", both


def transposed(case: Case) -> Iterator[Variant]:
    """A square weight is used without its transpose, or a buffer is reinterpreted as one."""

    def per_gate(wanted: Callable[[str], bool]) -> Case:
        def one(name: str, parts: list[Array]) -> list[Array]:
            square = wanted(name) and parts[0].ndim == 2 and parts[0].shape[0] == parts[0].shape[1]
            return [p.T for p in parts] if square else parts

        return _gates(case, one)

    def reshaped(name: str, value: Array) -> Array | None:
        if not (_is_input_weight(name) or _is_recurrent(name)) or value.ndim != 2:
            return None
        return np.ascontiguousarray(value).reshape(value.shape[::-1]).T

    yield "a kernel transposed: the recurrent weights, gate by gate", per_gate(_is_recurrent)
    yield "a kernel transposed: the input weights, gate by gate", per_gate(_is_input_weight)
    yield "a kernel transposed: its buffer reshaped instead of transposed", _edit(case, reshaped)


def direction(case: Case) -> Iterator[Variant]:
    """The sequence is read the wrong way round, or a backward output is not turned back."""
    if case.kind.endswith("Cell") or case.kind.startswith("pytorch_forecasting."):
        return
    axis = _time_axis_of_input(case)
    if _is_bidirectional(case):
        yield "direction: forward and backward weights swapped", _swap_directions(case)
        if case.kind == "torch.nn.LSTM":
            options = {**case.options, "unreversed": True}
            yield (
                "direction: the backward direction not reversed",
                replace(case, options=options),
            )
        yield (
            "direction: backward outputs not turned back to the input's order",
            replace(case, after=lambda out: _turn_half(case.after(out), axis)),
        )
        return
    x, *rest = case.inputs
    yield (
        "direction reversed: the sequence read from its other end",
        replace(
            case,
            inputs=(np.flip(x, axis), *rest),
            after=lambda out: _turn(case.after(out), x.ndim, axis, case.kind),
        ),
    )


def _is_bidirectional(case: Case) -> bool:
    return bool(case.options.get("bidirectional")) or case.kind == "keras.layers.Bidirectional"


def _time_axis_of_input(case: Case) -> int:
    ndim = case.inputs[0].ndim
    if case.kind in ("torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN"):
        return 1 if ndim == 3 and case.options.get("batch_first", False) else 0
    return int(ndim - 2)


def _swap_directions(case: Case) -> Case:
    def other(name: str) -> str:
        for a, b in (("forward_layer.", "backward_layer."), ("backward_layer.", "forward_layer.")):
            if name.startswith(a):
                return b + name.removeprefix(a)
        return name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"

    return replace(case, params={other(name): value for name, value in case.params.items()})


def _turn(outputs: Any, ndim: int, axis: int, kind: str) -> Any:
    """Flip sequence outputs in time: the first, and with mlx the second too."""
    held = leaves(outputs)
    count = 2 if kind == "mlx.nn.LSTM" else 1
    turned = [np.flip(a, axis) if k < count and a.ndim == ndim else a for k, a in enumerate(held)]
    return rebuild(outputs, turned)


def _turn_half(outputs: Any, axis: int) -> Any:
    """Flip the backward half of the features of the first output in time."""
    held = leaves(outputs)
    first = np.array(held[0])
    if first.ndim == 3:
        half = first.shape[-1] // 2
        first[..., half:] = np.flip(first[..., half:], axis)
    return rebuild(outputs, [first, *held[1:]])


def hard_sigmoid_slope(case: Case) -> Iterator[Variant]:
    """Keras 3's hard_sigmoid (slope 1/6) for Keras 2's (slope 0.2), or a sigmoid for either."""
    names = ("hard_sigmoid", "hard_sigmoid_keras2", "sigmoid")
    found = set(_activations(case.options))
    for old in names:
        for new in names:
            if old != new and old in found:
                yield (
                    f"hard_sigmoid slope: {new} in place of {old}",
                    replace(case, options=_renamed(case.options, old, new)),
                )


def _activations(options: Any) -> Iterator[str]:
    """Every recurrent activation, nested layers included."""
    if isinstance(options, Mapping):
        if "recurrent_activation" in options:
            yield options["recurrent_activation"]
        for value in options.values():
            yield from _activations(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from _activations(value)


def _renamed(options: Any, old: str, new: str) -> Any:
    if isinstance(options, Mapping):
        return {
            k: new if k == "recurrent_activation" and v == old else _renamed(v, old, new)
            for k, v in options.items()
        }
    if isinstance(options, list | tuple):
        return [_renamed(value, old, new) for value in options]
    return options


def swapped_states(case: Case) -> Iterator[Variant]:
    """h for c and c for h, on the way in, on the way out, or both."""
    given = leaves(case.inputs[1:])
    pairs = _state_pairs(given)
    swapped_in = replace(case, inputs=(case.inputs[0], *rebuild(case.inputs[1:], pairs))) if (
        pairs is not None and case.kind != "mlx.nn.LSTM"
    ) else None  # fmt: skip
    if swapped_in is not None:
        yield "h and c swapped in the initial state", swapped_in

    def out(outputs: Any) -> Any:
        return _swap_last(case, case.after(outputs))

    if _has_states_out(case):
        yield "h and c swapped in the returned state", replace(case, after=out)
        if swapped_in is not None:
            yield "h and c swapped on the way in and out", replace(swapped_in, after=out)


def _state_pairs(states: list[Any]) -> list[Any] | None:
    """States with neighbours exchanged; None where that is impossible or changes a shape."""
    states = [s for s in states if s.dtype != bool] if len(states) % 2 else states
    if not states or len(states) % 2:
        return None
    swapped = [states[k ^ 1] for k in range(len(states))]
    return (
        swapped if all(a.shape == b.shape for a, b in zip(states, swapped, strict=True)) else None
    )


def _has_states_out(case: Case) -> bool:
    held = leaves(case.outputs())
    return len(held) >= 2 and (held[-1].shape == held[-2].shape)


def _swap_last(case: Case, outputs: Any) -> Any:
    """Exchange the state arrays, which follow the output (an mlx or cell pair has no output)."""
    held = leaves(outputs)
    start = len(held) % 2
    tail = [held[start + (k ^ 1)] for k in range(len(held) - start)]
    return rebuild(outputs, [*held[:start], *tail])


def ignored_state(case: Case) -> Iterator[Variant]:
    """The initial state does not reach the layer."""
    floats = [a for a in leaves(case.inputs[1:]) if a.dtype != bool]
    if floats:
        zeroed = apply(lambda a: a if a.dtype == bool else np.zeros_like(a), case.inputs[1:])
        yield "the initial state ignored", replace(case, inputs=(case.inputs[0], *zeroed))


def update_gate(case: Case) -> Iterator[Variant]:
    """A GRU's old state and its candidate weighted the other way round: z for 1 - z."""
    names = _gate_names(case)
    sigmoid = case.options.get("recurrent_activation", "sigmoid") == "sigmoid"
    if "z" in names and sigmoid:
        at = names.index("z")
        inverted = _gates(case, lambda n, p: [-v if k == at else v for k, v in enumerate(p)])
        yield "update gate inverted: z taken for 1 - z", inverted


def reset_gate(case: Case) -> Iterator[Variant]:
    """A GRU's reset gate at the wrong place, or with the candidate's bias outside it."""
    if "z" not in _gate_names(case):
        return
    moved = _edit(case, lambda name, value: _outside(case, name, value))
    yield "reset gate: the candidate's recurrent bias added outside it", moved
    if case.options.get("reset_after", True) and case.kind.startswith("keras."):
        before = _edit(case, lambda n, v: v.sum(axis=0) if _is_bias(n) and v.ndim == 2 else None)
        options = {**case.options, "reset_after": False}
        yield (
            "reset gate: applied before the recurrent product instead of after it",
            replace(before, options=options),
        )


def _outside(case: Case, name: str, value: Array) -> Array | None:
    """Biases with the candidate's recurrent one added to that of the input."""
    leaf = name.rpartition(".")[2]
    if leaf == "bias" and value.ndim == 2:
        H = value.shape[1] // 3
        made = value.copy()
        made[0, 2 * H :] += made[1, 2 * H :]
        made[1, 2 * H :] = 0
        return made
    if not leaf.startswith("bias_"):
        return None
    H = len(value) // 3
    made = value.copy()
    if leaf.startswith("bias_hh"):
        made[2 * H :] = 0
    else:
        made[2 * H :] += case.params[name.replace("bias_ih", "bias_hh")][2 * H :]
    return made


def nonlinearity(case: Case) -> Iterator[Variant]:
    """A simple recurrent layer's tanh for relu, or relu for tanh."""
    key = "nonlinearity" if case.kind.startswith("torch.") else "activation"
    if _gate_names(case) == "h":
        held = case.options.get(key, "tanh")
        for other in ("tanh", "relu"):
            if other != held:
                yield (
                    f"nonlinearity: {other} in place of {held}",
                    replace(case, options={**case.options, key: other}),
                )


MISTAKES: dict[str, Callable[[Case], Iterator[Variant]]] = {
    "gates permuted": gate_order,
    "bias missing": missing_bias,
    "bias doubled": doubled_bias,
    "forget bias": forget_bias,
    "kernel transposed": transposed,
    "direction": direction,
    "hard_sigmoid slope": hard_sigmoid_slope,
    "h and c swapped": swapped_states,
    "initial state ignored": ignored_state,
    "update gate": update_gate,
    "reset gate": reset_gate,
    "nonlinearity": nonlinearity,
}
"""Every known mistake by name: the only list of them."""


def changes_something(case: Case, variant: Case) -> bool:
    """Whether the mistake shows at all in these outputs (a transposed scalar does not)."""
    pairs = zip(leaves(case.outputs()), leaves(variant.outputs()), strict=True)
    return any(a.shape != b.shape or np.abs(a - b).max(initial=0) > 1e-4 for a, b in pairs)
