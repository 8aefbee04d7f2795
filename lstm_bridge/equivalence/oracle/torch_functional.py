"""torch.nn.functional by its documentation, in NumPy. Source: torch 2.13.

Functions take torch's arguments, in torch's order and by torch's names, in evaluation mode, and
compute in the dtype of their arrays. Shape letters: N batch, C channels, L length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import Array, normalized

Function = Callable[..., Any]


def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:  # noqa: A002
    """``x W^T + b``."""
    y = input @ weight.T
    return np.asarray(y if bias is None else y + bias)


def bilinear(input1: Array, input2: Array, weight: Array, bias: Array | None = None) -> Array:
    """``x1^T W_k x2 + b_k``."""
    y = np.einsum("...i,kij,...j->...k", input1, weight, input2)
    return np.asarray(y if bias is None else y + bias)


def embedding(
    input: Array,  # noqa: A002
    weight: Array,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    **_: Any,
) -> Array:
    """Rows of a table, none longer than ``max_norm``."""
    return np.asarray(_shortened(weight, max_norm, norm_type)[np.asarray(input, np.int64)])


def _shortened(table: Array, max_norm: float | None, norm_type: float) -> Array:
    if max_norm is None:
        return table
    sizes = np.linalg.norm(table, norm_type, axis=1, keepdims=True)
    return np.where(sizes > max_norm, table * (max_norm / (sizes + 1e-7)), table)


def embedding_bag(
    input: Array,  # noqa: A002
    weight: Array,
    offsets: Array | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    *_: Any,
    mode: str = "mean",
    per_sample_weights: Array | None = None,
    padding_idx: int | None = None,
    include_last_offset: bool = False,
    **__: Any,
) -> Array:
    """Rows of a table, combined bag by bag."""
    weight = _shortened(weight, max_norm, norm_type)
    numbers = np.asarray(input, np.int64)
    if numbers.ndim == 2:
        bags: list[tuple[Array, Any]] = [(row, k) for k, row in enumerate(numbers)]
    else:
        starts = [int(o) for o in np.asarray(offsets)]
        ends = [*starts[1:], len(numbers)]
        pairs = list(zip(starts, ends, strict=True))[: -1 if include_last_offset else None]
        bags = [(numbers[a:b], slice(a, b)) for a, b in pairs]
    made = [
        _bag(row, weight, mode, None if per_sample_weights is None else per_sample_weights[k],
             padding_idx)
        for row, k in bags
    ]  # fmt: skip
    return np.stack(made)


def _bag(row: Array, weight: Array, mode: str, factors: Any, padding: int | None) -> Array:
    kept = row != padding if padding is not None else np.ones(len(row), bool)
    rows = weight[row[kept]]
    if not len(rows):
        return np.zeros(weight.shape[1], weight.dtype)
    if factors is not None:
        rows = rows * np.asarray(factors)[kept][:, None]
    reduce: dict[str, Function] = {"sum": np.sum, "mean": np.mean, "max": np.max}
    return np.asarray(reduce[mode](rows, axis=0))


# --- normalisation ----------------------------------------------------------------------------


def _scaled(y: Array, weight: Array | None, bias: Array | None, shape: Any) -> Array:
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _by_channel(x: Array) -> tuple[int, ...]:
    return (1, -1, *[1] * (x.ndim - 2))


def layer_norm(
    input: Array,  # noqa: A002
    normalized_shape: Any,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise over the last axes."""
    shape = normalized_shape if isinstance(normalized_shape, list | tuple) else [normalized_shape]
    y = normalized(input, tuple(range(input.ndim - len(shape), input.ndim)), eps)
    return _scaled(y, weight, bias, tuple(shape))


def rms_norm(
    input: Array,  # noqa: A002
    normalized_shape: Any,
    weight: Array | None = None,
    eps: float | None = None,
) -> Array:
    """Divide by the root of the mean square over the last axes; eps is float32's by default."""
    shape = normalized_shape if isinstance(normalized_shape, list | tuple) else [normalized_shape]
    axes = tuple(range(input.ndim - len(shape), input.ndim))
    mean = (input * input).mean(axis=axes, keepdims=True)
    return _scaled(
        input / np.sqrt(mean + (2.0**-23 if eps is None else eps)), weight, None, tuple(shape)
    )


def batch_norm(
    input: Array,  # noqa: A002
    running_mean: Array | None,
    running_var: Array | None,
    weight: Array | None = None,
    bias: Array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise channels by the running statistics, or the batch's own where there are none."""
    shape = _by_channel(input)
    if training or running_mean is None or running_var is None:
        y = normalized(input, (0, *range(2, input.ndim)), eps)
    else:
        y = (input - running_mean.reshape(shape)) / np.sqrt(running_var.reshape(shape) + eps)
    return _scaled(y, weight, bias, shape)


def instance_norm(
    input: Array,  # noqa: A002
    running_mean: Array | None = None,
    running_var: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each row's channels by their own statistics."""
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    y = normalized(input, tuple(range(2, input.ndim)), eps)
    return _scaled(y, weight, bias, _by_channel(input))


def group_norm(
    input: Array,  # noqa: A002
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise groups of channels row by row."""
    grouped = input.reshape(len(input), num_groups, -1)
    y = normalized(grouped, (2,), eps).reshape(input.shape)
    return _scaled(y, weight, bias, _by_channel(input))


def normalize(
    input: Array,  # noqa: A002
    p: float = 2.0,
    dim: Any = 1,
    eps: float = 1e-12,
    out: Any = None,
) -> Array:
    """Divide by the p-norm along an axis."""
    return np.asarray(input / np.maximum(p_norm(input, p, dim, True), eps))


def p_norm(x: Array, p: float, axis: Any, keepdims: bool) -> Array:
    """Return the p-norm over axes."""
    axis = tuple(axis) if isinstance(axis, list | tuple) else axis
    size = np.abs(x)
    if p == math.inf:
        return np.asarray(size.max(axis=axis, keepdims=keepdims))
    if p == -math.inf:
        return np.asarray(size.min(axis=axis, keepdims=keepdims))
    if p == 0:
        return np.asarray((x != 0).sum(axis=axis, keepdims=keepdims).astype(x.dtype))
    return np.asarray((size**p).sum(axis=axis, keepdims=keepdims) ** (1 / p))


# --- distances --------------------------------------------------------------------------------


def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """``x1 · x2 / (|x1| |x2|)`` along an axis."""
    a, b = np.broadcast_arrays(x1, x2)
    lengths = [np.maximum(p_norm(v, 2, dim, False), eps) for v in (a, b)]
    return np.asarray((a * b).sum(axis=dim) / (lengths[0] * lengths[1]))


def pairwise_distance(
    x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Array:
    """The p-norm of the difference, eps added to each element, along the last axis."""
    return p_norm(x1 - x2 + eps, p, -1, keepdim)


# --- activations ------------------------------------------------------------------------------


def _named(name: str) -> Function:
    return lambda input, inplace=False: ACTIVATIONS[name].f(input)  # noqa: A006


def relu6(input: Array, inplace: bool = False) -> Array:  # noqa: A002
    """``min(max(x, 0), 6)``."""
    return np.clip(input, 0, 6)


def leaky_relu(
    input: Array,  # noqa: A002
    negative_slope: float = 0.01,
    inplace: bool = False,
) -> Array:
    """``x``, or ``slope · x`` where negative."""
    return np.where(input > 0, input, negative_slope * input)


def rrelu(
    input: Array,  # noqa: A002
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Array:
    """In evaluation a leaky relu with the mean slope."""
    return leaky_relu(input, (lower + upper) / 2)


def prelu(input: Array, weight: Array) -> Array:  # noqa: A002
    """A leaky relu whose slopes, one or one per channel, are learnt."""
    slope = weight.reshape(_by_channel(input)) if weight.size > 1 else weight.reshape(())
    return np.where(input > 0, input, slope * input)


def elu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:  # noqa: A002
    """``x``, or ``alpha (e^x - 1)`` where negative."""
    return np.where(input > 0, input, alpha * np.expm1(np.minimum(input, 0)))


def celu(input: Array, alpha: float = 1.0, inplace: bool = False) -> Array:  # noqa: A002
    """``x``, or ``alpha (e^(x / alpha) - 1)`` where negative."""
    return np.where(input > 0, input, alpha * np.expm1(np.minimum(input, 0) / alpha))


def gelu(input: Array, approximate: str = "none") -> Array:  # noqa: A002
    """``x Phi(x)``, or its tanh approximation."""
    if approximate == "none":
        return np.asarray(ACTIVATIONS["gelu"].f(input))
    inner = np.sqrt(2 / np.pi) * (input + 0.044715 * input**3)
    return np.asarray(0.5 * input * (1 + np.tanh(inner)))


def glu(input: Array, dim: int = -1) -> Array:  # noqa: A002
    """``a sigma(b)`` of the halves of an axis."""
    a, b = np.split(input, 2, axis=dim)
    return np.asarray(a * ACTIVATIONS["sigmoid"].f(b))


def hardtanh(
    input: Array,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Array:
    """``x`` within limits."""
    return np.clip(input, min_val, max_val)


def hardshrink(input: Array, lambd: float = 0.5) -> Array:  # noqa: A002
    """``x``, 0 near 0."""
    return np.where(np.abs(input) > lambd, input, 0).astype(input.dtype)


def softshrink(input: Array, lambd: float = 0.5) -> Array:  # noqa: A002
    """``x`` moved towards 0 by lambda."""
    return np.asarray(np.sign(input) * np.maximum(np.abs(input) - lambd, 0))


def softplus(input: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:  # noqa: A002
    """``log(1 + e^(beta x)) / beta``, and ``x`` where ``beta x`` is beyond the threshold."""
    return np.where(beta * input > threshold, input, ACTIVATIONS["softplus"].f(beta * input) / beta)


def threshold(
    input: Array,  # noqa: A002
    threshold: float,
    value: float,
    inplace: bool = False,
) -> Array:
    """``x`` above a threshold, a constant elsewhere."""
    return np.where(input > threshold, input, value).astype(input.dtype)


def _along(name: str, sign: float = 1.0) -> Function:
    def apply(
        input: Array,  # noqa: A002
        dim: int | None = None,
        _stacklevel: int = 3,
        dtype: Any = None,
    ) -> Array:
        if dim is None:  # torch's own choice, which it warns of
            dim = 0 if input.ndim in (0, 1, 3) else 1
        return np.moveaxis(ACTIVATIONS[name].f(np.moveaxis(sign * input, dim, -1)), -1, dim)

    return apply


softmax = _along("softmax")


def dropout(input: Array, *_: Any, **__: Any) -> Array:  # noqa: A002
    """Nothing, in evaluation."""
    return input


def one_hot(input: Array, num_classes: int = -1) -> Array:  # noqa: A002
    """1 at the place that a number names."""
    count = int(input.max()) + 1 if num_classes < 0 else num_classes
    return np.eye(count, dtype=np.int64)[np.asarray(input, np.int64)]


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(
    input: Array,  # noqa: A002
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Array:
    """Values around the last axes; the pairs come from the last axis on. Negative ones crop."""
    pairs = [(0, 0)] * (input.ndim - len(pad) // 2)
    pairs += [(pad[k], pad[k + 1]) for k in range(len(pad) - 2, -1, -2)]
    cropped = input[
        tuple(
            slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(input.shape, pairs, strict=True)
        )
    ]
    around = [(max(0, a), max(0, b)) for a, b in pairs]
    if mode == "constant":
        return np.pad(cropped, around, constant_values=value or 0)
    kind: Any = _MODES[mode]
    return np.asarray(np.pad(cropped, around, mode=kind))


SIMPLE: dict[str, Function] = {
    **{f.__name__: f for f in (
        linear, bilinear, embedding, embedding_bag, layer_norm, rms_norm, batch_norm,
        instance_norm, group_norm, normalize, cosine_similarity, pairwise_distance, relu6,
        leaky_relu, rrelu, prelu, elu, celu, gelu, glu, hardtanh, hardshrink, softshrink,
        softplus, threshold, one_hot, pad, dropout,
    )},
    **dict.fromkeys(("alpha_dropout", "dropout1d", "dropout2d"), dropout),
    **{name: _named(name) for name in ("relu", "tanh", "sigmoid", "silu", "mish", "selu",
                                       "softsign")},
    "tanhshrink": _named("tanh_shrink"),
    "logsigmoid": _named("log_sigmoid"),
    "hardsigmoid": _named("hard_sigmoid"),
    "hardswish": _named("hard_swish"),
    "softmax": softmax,
    "softmin": _along("softmax", -1.0),
    "log_softmax": _along("log_softmax"),
}  # fmt: skip
"""Name in torch.nn.functional → function."""
