"""torch's losses, resampling and rarer tensor functions in NumPy. Source: torch 2.13."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.torch_functional import p_norm
from lstm_bridge.equivalence.oracle.torch_tensor import TENSOR, Found
from lstm_bridge.equivalence.oracle.torch_windows import WINDOWED
from lstm_bridge.errors import UnsupportedError

Function = Callable[..., Any]


def _reduced(values: Array, reduction: str) -> Array:
    if reduction == "none":
        return values
    return np.asarray(values.mean() if reduction == "mean" else values.sum())


def _of_difference(loss: Function) -> Function:
    """A loss of the difference alone, with one more number for some."""

    def run(
        input: Array,  # noqa: A002
        target: Array,
        *_: Any,
        reduction: str = "mean",
        weight: Any = None,
        **o: Any,
    ) -> Array:
        values = loss(input - target, **{k: v for k, v in o.items() if k in ("beta", "delta")})
        return _reduced(values if weight is None else values * weight, reduction)

    return run


def _huber(d: Array, delta: float = 1.0) -> Array:
    size = np.abs(d)
    return np.where(size < delta, 0.5 * d * d, delta * (size - 0.5 * delta))


def _smooth(d: Array, beta: float = 1.0) -> Array:
    return _huber(d, beta) / beta if beta else np.abs(d)


def _cross_entropy_of(p: Array, y: Array) -> Array:
    """The logarithms are at least -100."""
    low = [np.maximum(np.log(v), -100) for v in (p, 1 - p)]
    return np.asarray(-(y * low[0] + (1 - y) * low[1]))


def _binary(
    input: Array,  # noqa: A002
    target: Array,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Array:
    values = _cross_entropy_of(input, target)
    return _reduced(values if weight is None else values * weight, reduction)


def _binary_logits(
    input: Array,  # noqa: A002
    target: Array,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Array:
    log_sigmoid = ACTIVATIONS["log_sigmoid"].f
    factor = 1.0 if pos_weight is None else pos_weight
    values = -(factor * target * log_sigmoid(input) + (1 - target) * log_sigmoid(-input))
    return _reduced(values if weight is None else values * weight, reduction)


def _nll(
    input: Array,  # noqa: A002
    target: Array,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Array:
    kept = target != ignore_index
    place = np.where(kept, target, 0).astype(np.int64)
    picked = np.take_along_axis(input, np.expand_dims(place, 1), 1).squeeze(1)
    factor = np.where(kept, 1.0 if weight is None else np.asarray(weight)[place], 0.0)
    values = -picked * factor
    return (
        np.asarray(values.sum() / factor.sum())
        if reduction == "mean"
        else _reduced(values, reduction)
    )


def _cross_entropy(
    input: Array,  # noqa: A002
    target: Array,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    if label_smoothing or np.issubdtype(target.dtype, np.floating):
        raise UnsupportedError(
            "oracle of cross_entropy", expected="class numbers, unsmoothed", got="another target"
        )
    axis = 1 if input.ndim > 1 else 0
    logs = np.moveaxis(ACTIVATIONS["log_softmax"].f(np.moveaxis(input, axis, -1)), -1, axis)
    if input.ndim == 1:
        logs, target = logs[None], np.asarray(target)[None]
    return _nll(logs, target, weight, None, ignore_index, None, reduction)


def _kl_div(
    input: Array,  # noqa: A002
    target: Array,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Array:
    if log_target:
        values = np.exp(target) * (target - input)
    else:
        safe = np.where(target > 0, target, 1.0)
        values = np.where(target > 0, target * (np.log(safe) - input), 0.0)
    if reduction == "batchmean":
        return np.asarray(values.sum() / len(input))
    return _reduced(values, reduction)


def _gaussian_nll(
    input: Array,  # noqa: A002
    target: Array,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Array:
    v = np.asarray(var)
    v = v[..., None] if 0 < v.ndim == input.ndim - 1 else v
    v = np.maximum(v, eps)
    values = 0.5 * (np.log(v) + (input - target) ** 2 / v)
    return _reduced(values + (0.5 * math.log(2 * math.pi) if full else 0.0), reduction)


def _interpolate(
    input: Array,  # noqa: A002
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Array:
    rank = input.ndim - 2
    if mode not in ("nearest", "nearest-exact", "linear", "bilinear") or antialias:
        raise UnsupportedError("oracle of interpolate", expected="nearest or linear", got=mode)
    scales = scale_factor if isinstance(scale_factor, list | tuple) else [scale_factor] * rank
    sizes = size if isinstance(size, list | tuple) else [size] * rank
    for k in range(rank):
        n = input.shape[2 + k]
        own = None if scale_factor is None else float(scales[k])
        m = int(sizes[k]) if own is None else math.floor(n * own)
        ratio = n / m if own is None or recompute_scale_factor else 1 / own
        input = _resampled(input, 2 + k, m, ratio, mode, bool(align_corners))  # noqa: A001
    return np.asarray(input)


def _resampled(x: Array, axis: int, m: int, ratio: float, mode: str, corners: bool) -> Array:
    n, at = x.shape[axis], np.arange(m)
    if mode.startswith("nearest"):
        middle = 0.5 if mode == "nearest-exact" else 0.0
        places = np.floor((at + middle) * ratio).astype(int)
        return np.asarray(np.take(x, np.minimum(places, n - 1), axis=axis))
    place = at * ((n - 1) / max(1, m - 1)) if corners else (at + 0.5) * ratio - 0.5
    place = np.clip(place, 0, n - 1)
    low = np.floor(place).astype(int)
    part = (place - low).reshape([-1 if k == axis else 1 for k in range(x.ndim)])
    high = np.minimum(low + 1, n - 1)
    return np.asarray((1 - part) * np.take(x, low, axis) + part * np.take(x, high, axis))


def _lp_pool1d(
    input: Array,  # noqa: A002
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Array:
    """The p-norm of each window."""
    mean = WINDOWED["avg_pool1d"](input**norm_type, kernel_size, stride, 0, ceil_mode)
    width = kernel_size[0] if isinstance(kernel_size, list | tuple) else kernel_size
    return np.asarray((np.maximum(mean, 0) * width) ** (1 / norm_type))


LOSSES: dict[str, Function] = {
    "l1_loss": _of_difference(np.abs),
    "mse_loss": _of_difference(np.square),
    "huber_loss": _of_difference(_huber),
    "smooth_l1_loss": _of_difference(_smooth),
    "binary_cross_entropy": _binary,
    "binary_cross_entropy_with_logits": _binary_logits,
    "nll_loss": _nll,
    "cross_entropy": _cross_entropy,
    "kl_div": _kl_div,
    "gaussian_nll_loss": _gaussian_nll,
    "interpolate": _interpolate,
    "lp_pool1d": _lp_pool1d,
}
"""Name in torch.nn.functional → function."""


def _running(find: Function) -> Function:
    def run(input: Array, dim: int) -> Found:  # noqa: A002
        x = np.moveaxis(input, dim, -1)
        best = find.accumulate(x, axis=-1)  # type: ignore[attr-defined]
        places = np.where(x == best, np.arange(x.shape[-1]), 0)
        at = np.maximum.accumulate(places, axis=-1)
        return Found(np.moveaxis(best, -1, dim), np.moveaxis(at, -1, dim))

    return run


def _kthvalue(input: Array, k: int, dim: int = -1, keepdim: bool = False) -> Found:  # noqa: A002
    at = np.take(np.argsort(input, axis=dim, kind="stable"), [k - 1], axis=dim)
    values = np.take_along_axis(input, at, dim)
    return Found(values, at) if keepdim else Found(values.squeeze(dim), at.squeeze(dim))


def _median(input: Array, dim: int | None = None, keepdim: bool = False) -> Any:  # noqa: A002
    if dim is None:
        return _kthvalue(input.reshape(-1), (input.size + 1) // 2, 0).values
    return _kthvalue(input, (input.shape[dim] + 1) // 2, dim, keepdim)


def _meshgrid(*tensors: Any, indexing: str | None = None) -> list[Array]:
    arrays = tensors[0] if isinstance(tensors[0], list | tuple) else tensors
    return list(np.meshgrid(*arrays, indexing="xy" if indexing == "xy" else "ij"))


RARER: dict[str, Function] = {
    "addcdiv": lambda input, tensor1, tensor2, value=1: input + value * tensor1 / tensor2,  # noqa: A006
    "frac": lambda input: input - np.trunc(input),  # noqa: A006
    "diff": lambda input, n=1, dim=-1: np.diff(input, n, axis=dim),  # noqa: A006
    "tensordot": lambda a, b, dims=2, out=None: np.tensordot(a, b, dims),
    "meshgrid": _meshgrid,
    "kron": np.kron,
    "cdist": lambda x1, x2, p=2.0, compute_mode="": p_norm(
        x1[..., :, None, :] - x2[..., None, :, :], p, -1, False
    ),
    "isclose": lambda input, other, rtol=1e-5, atol=1e-8, equal_nan=False: np.isclose(  # noqa: A006
        input, other, rtol, atol, equal_nan
    ),
    "cummax": _running(np.maximum),
    "cummin": _running(np.minimum),
    "median": _median,
    "kthvalue": _kthvalue,
    "dstack": lambda tensors: np.dstack(list(tensors)),
    "type": lambda input, dtype=None, non_blocking=False: TENSOR["to"](input, dtype=dtype),  # noqa: A006
}
"""torch's name → function."""
