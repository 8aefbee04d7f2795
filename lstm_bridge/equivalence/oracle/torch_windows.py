"""torch's convolutions, pooling and attention by their documentation. Source: torch 2.13.

Shape letters: N batch, C channels in, F channels out, S sizes, K kernel, T queries, E width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import (
    Array,
    convolved,
    padded,
    same_padding,
    sizes,
    spread,
    to_last,
    to_second,
    windows,
)
from lstm_bridge.equivalence.oracle.torch_functional import pad

Function = Callable[..., Any]


def _batched(rank: int, function: Function) -> Function:
    """Let a function over ``[N, C, *S]`` take ``[C, *S]`` too."""

    def run(x: Array, *args: Any, **named: Any) -> Any:
        if x.ndim == rank + 2:
            return function(x, *args, **named)
        made = function(x[None], *args, **named)
        return tuple(a[0] for a in made) if isinstance(made, tuple) else made[0]

    return run


def _conv(rank: int) -> Function:
    def conv(
        input: Array,  # noqa: A002
        weight: Array,
        bias: Array | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Array:
        steps, apart = sizes(stride, rank), sizes(dilation, rank)
        kernel = np.moveaxis(weight, (0, 1), (-1, -2))
        if padding == "same":
            reach = [d * (k - 1) + 1 for k, d in zip(kernel.shape, apart, strict=False)]
            around = [same_padding(n, r, 1) for n, r in zip(input.shape[2:], reach, strict=True)]
        else:
            around = [(p, p) for p in sizes(0 if padding == "valid" else padding, rank)]
        y = convolved(padded(to_last(input), around), kernel, steps, apart, groups)
        return to_second(y if bias is None else y + bias)

    return _batched(rank, conv)


def _conv_transpose(rank: int) -> Function:
    def conv(
        input: Array,  # noqa: A002
        weight: Array,
        bias: Array | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Array:
        kernel = np.moveaxis(weight, (0, 1), (-2, -1))
        full = spread(to_last(input), kernel, sizes(stride, rank), sizes(dilation, rank), groups)
        more = [(0, extra) for extra in sizes(output_padding, rank)]
        full = padded(full, more)
        cut = [slice(p, n - p) for p, n in zip(sizes(padding, rank), full.shape[1:-1], strict=True)]
        y = full[(slice(None), *cut)]
        return to_second(y if bias is None else y + bias)

    return _batched(rank, conv)


def _pool(rank: int, average: bool) -> Function:
    def counted(
        x: Array, size: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
    ) -> tuple[Any, ...]:
        """Windows, and which of their elements lie in x, and in x with its padding."""
        K, apart = sizes(size, rank), sizes(dilation, rank)
        steps = K if stride is None or stride == [] or stride == () else sizes(stride, rank)
        around = [(p, p) for p in sizes(padding, rank)]
        reach = [d * (k - 1) + 1 for k, d in zip(K, apart, strict=True)]
        more = [
            _extra(n + 2 * p, p, r, s) if ceil else 0
            for n, (p, _), r, s in zip(x.shape[2:], around, reach, steps, strict=True)
        ]
        fill = 0.0 if average else -np.inf
        last = to_last(x)
        inside = padded(padded(np.ones_like(last), around), [(0, m) for m in more])
        bounded = padded(padded(np.ones_like(last), around, 1.0), [(0, m) for m in more])
        values = padded(padded(last, around, fill), [(0, m) for m in more], fill)
        return tuple(windows(v, K, steps, apart) for v in (values, inside, bounded))

    def avg_pool(
        input: Array,  # noqa: A002
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Array:
        values, inside, bounded = counted(input, kernel_size, stride, padding, 1, ceil_mode)
        count = (bounded if count_include_pad else inside).sum(axis=0)
        return to_second(values.sum(axis=0) / (divisor_override or count))

    def max_pool(
        input: Array,  # noqa: A002
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Array:
        values, _, _ = counted(input, kernel_size, stride, padding, dilation, ceil_mode)
        return to_second(values.max(axis=0))

    return _batched(rank, avg_pool if average else max_pool)


def _extra(length: int, padding: int, reach: int, stride: int) -> int:
    """What ceil_mode adds at the end: a last window that begins in the input or before it."""
    count = math.ceil((length - reach) / stride) + 1
    if (count - 1) * stride >= length - padding:
        count -= 1
    return max(0, (count - 1) * stride + reach - length)


def _adaptive(rank: int, average: bool) -> Function:
    def pool(input: Array, output_size: Any, return_indices: bool = False) -> Array:  # noqa: A002
        given = output_size if isinstance(output_size, list | tuple) else [output_size] * rank
        y = to_last(input)
        for axis, wanted in enumerate(given, start=1):
            n = y.shape[axis]
            out = n if wanted is None else int(wanted)
            spans = [((k * n) // out, -(-((k + 1) * n) // out)) for k in range(out)]
            parts = [np.take(y, range(a, b), axis=axis) for a, b in spans]
            y = np.stack([p.mean(axis=axis) if average else p.max(axis=axis) for p in parts], axis)
        return to_second(y)

    return _batched(rank, pool)


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """``softmax(Q K^T / sqrt(E) + mask) V``; a boolean mask keeps where it is True."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if enable_gqa:
        times = query.shape[-3] // key.shape[-3]
        key, value = (np.repeat(a, times, axis=-3) for a in (key, value))
    scores = query @ np.swapaxes(key, -1, -2) * factor
    if is_causal:
        attn_mask = np.tril(np.ones(scores.shape[-2:], bool))
    if attn_mask is not None:
        added = np.where(attn_mask, 0.0, -np.inf) if attn_mask.dtype == bool else attn_mask
        scores = scores + added.astype(scores.dtype)
    return np.asarray(ACTIVATIONS["softmax"].f(scores) @ value)


def multihead_attention(
    o: Any,
    p: Any,
    query: Array,
    key: Array,
    value: Array,
    key_padding_mask: Array | None = None,
    need_weights: bool = True,
    attn_mask: Array | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """torch.nn.MultiheadAttention's output and weights; a boolean mask drops where it is True."""
    heads = o["num_heads"]
    unbatched = query.ndim == 2
    q, k, v = (_batch_first(a, o, unbatched) for a in (query, key, value))
    q, k, v = _projected(p, q, k, v)
    N, T = q.shape[:2]
    masks = [_added(attn_mask), _padding(key_padding_mask, unbatched)]
    k, v, extra = _extended(o, p, k, v)
    q, k, v = (_heads(a, heads) for a in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    for mask in (m for m in masks if m is not None):
        wide = np.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, extra)])
        if wide.ndim == 3:
            wide = wide.reshape(N, heads, T, -1)
        scores = scores + wide.astype(scores.dtype)
    weights = ACTIVATIONS["softmax"].f(scores)
    y = np.swapaxes(weights @ v, 1, 2).reshape(N, T, -1)
    y = y @ p["out_proj.weight"].T
    y = y + p["out_proj.bias"] if "out_proj.bias" in p else y
    shown = weights.mean(axis=1) if average_attn_weights else weights
    if unbatched:
        y, shown = y[0], shown[0]
    elif not o.get("batch_first", False):
        y = y.swapaxes(0, 1)
    return y, (shown if need_weights else None)


def _batch_first(x: Array, o: Any, unbatched: bool) -> Array:
    if unbatched:
        return x[None]
    return x if o.get("batch_first", False) else x.swapaxes(0, 1)


def _projected(p: Any, q: Array, k: Array, v: Array) -> list[Array]:
    if "in_proj_weight" in p:
        kernels = np.split(p["in_proj_weight"], 3)
    else:
        kernels = [p[f"{n}_proj_weight"] for n in "qkv"]
    biases = np.split(p["in_proj_bias"], 3) if "in_proj_bias" in p else [0.0, 0.0, 0.0]
    parts = zip((q, k, v), kernels, biases, strict=True)
    return [np.asarray(x @ W.T + b) for x, W, b in parts]


def _extended(o: Any, p: Any, k: Array, v: Array) -> tuple[Array, Array, int]:
    """Keys and values with the learnt row and the row of zeros that options add."""
    extra = 0
    if "bias_k" in p:
        k, v = (
            np.concatenate([a, np.broadcast_to(p[name], (len(a), 1, a.shape[-1]))], axis=1)
            for a, name in ((k, "bias_k"), (v, "bias_v"))
        )
        extra += 1
    if o.get("add_zero_attn"):
        k, v = (np.pad(a, ((0, 0), (0, 1), (0, 0))) for a in (k, v))
        extra += 1
    return k, v, extra


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _added(mask: Array | None) -> Array | None:
    """A mask as what is added to the scores."""
    if mask is None or mask.dtype != bool:
        return mask
    return np.where(mask, -np.inf, 0.0)


def _padding(mask: Array | None, unbatched: bool) -> Array | None:
    added = _added(mask)
    if added is None:
        return None
    return (added[None] if unbatched else added)[:, None, None, :]


WINDOWED: dict[str, Function] = {
    "conv1d": _conv(1),
    "conv2d": _conv(2),
    "conv_transpose1d": _conv_transpose(1),
    "conv_transpose2d": _conv_transpose(2),
    **{f"avg_pool{n}d": _pool(n, average=True) for n in (1, 2)},
    **{f"max_pool{n}d": _pool(n, average=False) for n in (1, 2)},
    **{f"adaptive_avg_pool{n}d": _adaptive(n, average=True) for n in (1, 2)},
    **{f"adaptive_max_pool{n}d": _adaptive(n, average=False) for n in (1, 2)},
    "scaled_dot_product_attention": scaled_dot_product_attention,
}
"""Name in torch.nn.functional → function."""

_AROUND = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate"}


def conv_layer(o: Any, p: Any, x: Array) -> Array:
    """torch.nn.Conv1d or Conv2d, with any padding_mode."""
    rank = p["weight"].ndim - 2
    padding = o.get("padding", 0)
    mode = o.get("padding_mode", "zeros")
    if mode != "zeros":
        if padding == "same":
            reach = [
                d * (k - 1)
                for k, d in zip(
                    p["weight"].shape[2:], sizes(o.get("dilation", 1), rank), strict=True
                )
            ]
            pairs = [(r // 2, r - r // 2) for r in reach]
        else:
            pairs = [(n, n) for n in sizes(0 if padding == "valid" else padding, rank)]
        flat = [n for pair in reversed(pairs) for n in pair]
        x, padding = pad(x, flat, _AROUND.get(mode, mode)), 0
    options = {n: o[n] for n in ("stride", "dilation", "groups") if n in o}
    return np.asarray(
        WINDOWED[f"conv{rank}d"](x, p["weight"], p.get("bias"), padding=padding, **options)
    )
