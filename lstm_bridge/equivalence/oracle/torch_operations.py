"""Every function that a graph traced from torch may call, in NumPy. Source: torch 2.13."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.torch_functional import SIMPLE
from lstm_bridge.equivalence.oracle.torch_losses import LOSSES, RARER
from lstm_bridge.equivalence.oracle.torch_packed import PACKING, Packed
from lstm_bridge.equivalence.oracle.torch_shapes import getitem, setitem, to
from lstm_bridge.equivalence.oracle.torch_tensor import TENSOR
from lstm_bridge.equivalence.oracle.torch_windows import WINDOWED
from lstm_bridge.errors import UnsupportedError

Operation = Callable[..., Any]

_OPERATORS: dict[str, Operation] = {
    **{
        name: getattr(operator, name)
        for name in (
            *("add", "sub", "mul", "truediv", "pow", "matmul", "neg", "pos", "abs", "invert"),
            *("eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "xor", "not_", "floordiv", "mod"),
        )
    },
    "getitem": getitem,
    "setitem": setitem,
}

_FLAGS = {"device": None, "is_cuda": False, "requires_grad": False}


def _attribute(value: Any, name: str) -> Any:
    if name in _FLAGS:
        return _FLAGS[name]
    if name == "dtype":
        return str(value.dtype)
    if name == "mT":
        return value.swapaxes(-1, -2)
    if name == "data":
        return getattr(value, "data", value) if isinstance(value, tuple) else value
    return getattr(value, name)


def _assert(condition: Any, message: str = "") -> None:
    if not condition:
        raise ValueError(message or "what the model asserts does not hold")


def _number(kind: type) -> Operation:
    return lambda value: kind(np.asarray(value).item())


_KINDS: dict[str, Callable[[Any], bool]] = {
    "Tensor": lambda v: isinstance(v, np.ndarray),
    "PackedSequence": lambda v: isinstance(v, Packed),
    "tuple": lambda v: isinstance(v, tuple),
    "list": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "Mapping": lambda v: isinstance(v, dict),
    "int": lambda v: isinstance(v, int),
    "float": lambda v: isinstance(v, float),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "Parameter": lambda v: False,
}
"""What isinstance asks of a value, by the class's name."""


def _limit(dtype: str, name: str) -> float:
    if dtype == "bfloat16":  # which NumPy has not
        top = (2 - 2.0**-7) * 2.0**127
        own = {"max": top, "min": -top, "eps": 2.0**-7}
        return own.get(name, 2.0**-126)
    return float(getattr(np.finfo(dtype), name))


def _refuse(reason: str) -> Any:
    raise UnsupportedError("oracle of a graph", expected="a way that was ported", got=reason)


_PYTHON: dict[str, Operation] = {
    "bool": bool,
    "contains": operator.contains,
    "is_none": lambda value: value is None,
    "is_instance": lambda value, kinds: any(_KINDS[kind](value) for kind in kinds),
    "steps": lambda start, stop, step: len(range(start, stop, step)),
    "steps_after": lambda steps, done: steps - done,
    "limit_of": _limit,
    "chained": lambda *parts: [value for part in parts for value in part],
    "backwards": lambda values: values[::-1],
    "with_data": lambda value, data: data,
    "refuse": _refuse,
    "getattr": _attribute,
    "len": len,
    "int": _number(int),
    "float": _number(float),
    "tuple": lambda *values: values,
    "assert": _assert,
    **{
        name: getattr(math, name)
        for name in (*("sqrt", "ceil", "floor", "log", "exp", "sin", "cos", "log2", "prod", "pow"),)
    },
}


def _names(params: Sequence[Array], layers: int, ends: Sequence[str], biases: bool) -> list[str]:
    """Names of flat weights, layer by layer and direction by direction."""
    size = len(params) // (layers * len(ends))
    roles = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biases else [])]
    roles += ["weight_hr"] if size > len(roles) else []
    return [f"{role}_l{k}{end}" for k in range(layers) for end in ends for role in roles]


def _recurrent(name: str, **more: Any) -> Operation:
    def run(
        input: Array,  # noqa: A002
        hx: Any,
        params: Sequence[Array],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        ends = ("", "_reverse") if bidirectional else ("",)
        held = dict(zip(_names(params, num_layers, ends, has_biases), params, strict=True))
        options = {
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "batch_first": batch_first,
            **more,
        }
        state = tuple(hx) if name == "LSTM" else hx
        made = ORACLES[f"torch.nn.{name}"](options, held, input, state, dtype=input.dtype)
        return (made[0], *made[1]) if name == "LSTM" else made

    return run


def _slice(self: Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return getitem(self, (*[slice(None)] * (dim % self.ndim), slice(start, end, step)))


def _batch_norm(
    input: Array,  # noqa: A002
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    training: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Any:
    return SIMPLE["batch_norm"](input, mean, var, weight, bias, training, momentum, eps)


def _layer_norm(
    input: Array,  # noqa: A002
    shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    return SIMPLE["layer_norm"](input, shape, weight, bias, eps)


def _convolution(
    input: Array,  # noqa: A002
    weight: Array,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    *_: Any,
) -> Any:
    rank = weight.ndim - 2
    if transposed:
        return WINDOWED[f"conv_transpose{rank}d"](
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return WINDOWED[f"conv{rank}d"](input, weight, bias, stride, padding, dilation, groups)


def _to(self: Any, *args: Any, dtype: Any = None) -> Any:
    return to(self, *[a for a in (*args, dtype) if isinstance(a, str)])


def _renormed(table: Array, indices: Array, max_norm: float, norm_type: float) -> Array:
    made, read = table.copy(), np.unique(indices)
    made[read] = SIMPLE["embedding"](read, table, None, max_norm, norm_type)
    return made


_ATEN: dict[str, Operation] = {
    "lstm": _recurrent("LSTM"),
    "gru": _recurrent("GRU"),
    "rnn_tanh": _recurrent("RNN"),
    "rnn_relu": _recurrent("RNN", nonlinearity="relu"),
    "slice": _slice,
    "embedding": lambda weight, indices, *_: SIMPLE["embedding"](indices, weight),
    "embedding_renorm": _renormed,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "_convolution": _convolution,
    "to": _to,
    "unpacked": lambda value, place: value[place],
}

TORCH_OPERATIONS: dict[str, Operation] = {
    "item": operator.getitem,
    **{f"torch.{name}": f for name, f in {**TENSOR, **RARER}.items()},
    **{f"functional.{name}": f for name, f in {**SIMPLE, **WINDOWED, **LOSSES}.items()},
    **{f"torch.rnn.{name}": f for name, f in PACKING.items()},
    **{f"aten.{name}": f for name, f in _ATEN.items()},
    **{f"operator.{name}": f for name, f in _OPERATORS.items()},
    **{f"python.{name}": f for name, f in _PYTHON.items()},
}
"""Function name in a graph → function."""
