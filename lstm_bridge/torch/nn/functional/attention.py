"""``torch.nn.functional.scaled_dot_product_attention``.

N batch, L queries, S keys, E width.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

import mlx.core as mx

from lstm_bridge.core.attention import attend
from lstm_bridge.core.products import matmul
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.torch.nn.functional.activation import softmax
from lstm_bridge.torch.nn.functional.dropout import dropout


def scaled_dot_product_attention(
    query: mx.array,
    key: mx.array,
    value: mx.array,
    attn_mask: mx.array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> mx.array:
    """``softmax(scale · Q K^T + mask) V``.

    Args:
        query: ``[*, L, E]``.
        key: ``[*, S, E]``.
        value: ``[*, S, Ev]``.
        attn_mask: added to the scores, or boolean: True takes part. Default: None.
        dropout_p: probability of dropping a weight, as torch does whenever it is not 0. Default: 0.
        is_causal: query i sees keys up to i. Default: False.
        scale: Default: ``1 / sqrt(E)``.
        enable_gqa: refused. Default: False.

    Raises:
        UsageError: a mask and is_causal together.
        UnsupportedError: enable_gqa.
    """
    if enable_gqa:
        raise UnsupportedError(
            "scaled_dot_product_attention enable_gqa", expected="False", got="True"
        )
    if is_causal and attn_mask is not None:
        raise UsageError(
            "scaled_dot_product_attention", expected="attn_mask or is_causal", got="both"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if attn_mask is None and not dropout_p and not is_causal:
        y = _of_heads(query, key, value, scale)
        if y is not None:
            return y
    if is_causal:
        attn_mask = mx.tri(query.shape[-2], key.shape[-2], dtype=mx.bool_)
    scores = matmul(query * scale, key.swapaxes(-1, -2))
    weights = dropout(softmax(masked(scores, attn_mask), -1), dropout_p)
    return matmul(weights, value)


def _of_heads(q: mx.array, k: mx.array, v: mx.array, scale: float) -> mx.array | None:
    """Attend with ``[N, h, ·, E]`` or ``[N, ·, E]`` by the kernel, None where it does not serve."""
    if q.ndim == 3 == k.ndim == v.ndim:
        done = attend((q, k, v), 1, scale)
        return None if done is None else done[0]
    if q.ndim != 4 or not q.shape[1] == k.shape[1] == v.shape[1]:
        return None
    done = attend([x.swapaxes(1, 2).flatten(2) for x in (q, k, v)], q.shape[1], scale)
    if done is None:
        return None
    return mx.unflatten(done[0], 2, (q.shape[1], -1)).swapaxes(1, 2)


def masked(scores: mx.array, mask: mx.array | None, hidden: bool = False) -> mx.array:
    """Return scores with a mask applied.

    Args:
        scores: ``[*, L, S]``.
        mask: added if it is of a floating dtype; boolean otherwise.
        hidden: what a boolean mask holds where a key takes no part. Default: False.
    """
    if mask is None:
        return scores
    if mask.dtype != mx.bool_:
        return scores + mask
    low = mx.array(float("-inf")).astype(scores.dtype)
    return mx.where(mask == hidden, low, scores)
