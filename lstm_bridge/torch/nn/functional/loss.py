"""``torch.nn.functional``'s losses, for models whose forward computes one.

N batch, C classes.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.core.exponentials import exponential
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.torch.nn.functional.activation import log_softmax, logsigmoid


def mse_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: mx.array | None = None,
) -> mx.array:
    """Return the squared differences, reduced."""
    return _weighted((input - target) ** 2, weight, size_average, reduce, reduction)


def l1_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: mx.array | None = None,
) -> mx.array:
    """Return the absolute differences, reduced."""
    return _weighted(mx.abs(input - target), weight, size_average, reduce, reduction)


def smooth_l1_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> mx.array:
    """Return differences that are squared below ``beta`` and absolute above, reduced."""
    _only_reduction(size_average, reduce)
    away = mx.abs(input - target)
    if beta == 0:
        return _reduced(away, reduction)
    return _reduced(mx.where(away < beta, 0.5 * away**2 / beta, away - 0.5 * beta), reduction)


def huber_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: mx.array | None = None,
) -> mx.array:
    """Return ``delta`` times the smooth L1 loss, reduced."""
    away = mx.abs(input - target)
    each = mx.where(away <= delta, 0.5 * away**2, delta * (away - 0.5 * delta))
    return _weighted(each, weight, None, None, reduction)


def binary_cross_entropy(
    input: mx.array,  # noqa: A002
    target: mx.array,
    weight: mx.array | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> mx.array:
    """Return the cross entropy of probabilities, logarithms not below -100, reduced."""
    _only_reduction(size_average, reduce)
    yes, no = mx.maximum(mx.log(input), -100), mx.maximum(mx.log(1 - input), -100)
    each = -(target * yes + (1 - target) * no)
    return _reduced(each if weight is None else each * weight, reduction)


def binary_cross_entropy_with_logits(
    input: mx.array,  # noqa: A002
    target: mx.array,
    weight: mx.array | None = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: mx.array | None = None,
) -> mx.array:
    """Return the cross entropy of sigmoids, reduced."""
    _only_reduction(size_average, reduce)
    positive = target if pos_weight is None else target * pos_weight
    each = -(positive * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return _reduced(each if weight is None else each * weight, reduction)


def nll_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    weight: mx.array | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> mx.array:
    """Return the negative logarithm at each target, reduced.

    Args:
        input: logarithms of probabilities, ``[C]``, ``[N, C]`` or ``[N, C, …]``.
        target: classes, ``[]``, ``[N]`` or ``[N, …]``.
        weight: a factor for each class, ``[C]``. Default: None.
        size_average: refused: torch has replaced it by ``reduction``.
        ignore_index: class that does not count. Default: -100.
        reduce: refused, as ``size_average``.
        reduction: "mean", "sum" or "none". Default: "mean".
    """
    _only_reduction(size_average, reduce)
    axis = 0 if input.ndim == 1 else 1
    counts = target != ignore_index
    classes = mx.where(counts, target, 0)
    picked = mx.take_along_axis(input, mx.expand_dims(classes, axis), axis=axis)
    factor = counts.astype(input.dtype)
    if weight is not None:
        factor = factor * weight[classes]
    each = -mx.squeeze(picked, axis) * factor
    return mx.sum(each) / mx.sum(factor) if reduction == "mean" else _reduced(each, reduction)


def cross_entropy(
    input: mx.array,  # noqa: A002
    target: mx.array,
    weight: mx.array | None = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> mx.array:
    """Return ``nll_loss`` of the log-softmax; targets may be probabilities too.

    Raises:
        UnsupportedError: smoothing of labels together with class weights.
    """
    _only_reduction(size_average, reduce)
    axis = 0 if input.ndim == 1 else 1
    logs = log_softmax(input, axis)
    if label_smoothing and weight is not None:
        raise UnsupportedError(
            "cross_entropy", expected="label_smoothing or weight", got="both of them"
        )
    if mx.issubdtype(target.dtype, mx.floating):
        wanted = target * (1 - label_smoothing) + label_smoothing / input.shape[axis]
        scaled = logs if weight is None else logs * _along(weight, axis, input.ndim)
        each = -mx.sum(wanted * scaled, axis=axis)
        if reduction == "mean":
            return mx.sum(each) / max(1, each.size)
        return _reduced(each, reduction)
    plain = nll_loss(logs, target, weight, None, ignore_index, None, reduction)
    if not label_smoothing:
        return plain
    counts = (target != ignore_index).astype(input.dtype)
    even = -mx.mean(logs, axis=axis) * counts
    smooth = mx.sum(even) / mx.sum(counts) if reduction == "mean" else _reduced(even, reduction)
    return (1 - label_smoothing) * plain + label_smoothing * smooth


def kl_div(
    input: mx.array,  # noqa: A002
    target: mx.array,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> mx.array:
    """Return the divergence of a target distribution from one given by logarithms, reduced."""
    _only_reduction(size_average, reduce)
    if log_target:
        each = exponential(target) * (target - input)
    else:
        each = mx.where(target > 0, target * mx.log(mx.where(target > 0, target, 1)), 0)
        each = each - target * input
    if reduction == "batchmean":
        return mx.sum(each) / input.shape[0]
    return _reduced(each, reduction)


def gaussian_nll_loss(
    input: mx.array,  # noqa: A002
    target: mx.array,
    var: mx.array | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> mx.array:
    """Return the negative log-likelihood of normal distributions, reduced."""
    spread = mx.array(var) if not isinstance(var, mx.array) else var
    if spread.ndim == input.ndim - 1:
        spread = spread[..., None]
    # As in torch, the limit lets the gradient through as if it were not there.
    limited = spread + mx.stop_gradient(mx.maximum(spread, eps) - spread)
    each = 0.5 * (mx.log(limited) + (input - target) ** 2 / limited)
    return _reduced(each + 0.9189385332046727 if full else each, reduction)


def _along(weight: mx.array, axis: int, rank: int) -> mx.array:
    return weight.reshape([-1 if k == axis else 1 for k in range(rank)])


def _only_reduction(size_average: Any, reduce: Any) -> None:
    if size_average is not None or reduce is not None:
        raise UnsupportedError(
            "loss", expected="reduction", got="size_average or reduce, which it has replaced"
        )


def _weighted(
    each: mx.array, weight: mx.array | None, size_average: Any, reduce: Any, reduction: str
) -> mx.array:
    _only_reduction(size_average, reduce)
    if weight is None:
        return _reduced(each, reduction)
    total = each * weight
    return mx.sum(total) / mx.sum(weight) if reduction == "mean" else _reduced(total, reduction)


def _reduced(each: mx.array, reduction: str) -> mx.array:
    if reduction == "none":
        return each
    if reduction not in ("mean", "sum"):
        raise UsageError("loss reduction", expected="'none', 'mean' or 'sum'", got=repr(reduction))
    return mx.mean(each) if reduction == "mean" else mx.sum(each)
