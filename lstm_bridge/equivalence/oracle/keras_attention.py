"""Keras's attention layers by their documentation. Source: keras 3.15.

Shape letters: N batch, T queries, S keys and values, D width, M heads, K their width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.lstm import Options, Params

Layer = Callable[..., Any]


def _products(o: Options, p: Params, query: Array, key: Array) -> Array:
    scale = p.get("scale", 1.0)
    if o.get("score_mode", "dot") == "dot":
        return np.asarray(query @ np.swapaxes(key, -1, -2) * scale)
    both = query[..., :, None, :] + key[..., None, :, :]
    return np.asarray(p["concat_score_weight"] * np.tanh(scale * both).sum(axis=-1))


def _sums(o: Options, p: Params, query: Array, key: Array) -> Array:
    both = np.tanh(query[..., :, None, :] + key[..., None, :, :])
    return np.asarray((p.get("scale", 1.0) * both).sum(axis=-1))


def _attention(scores_of: Callable[..., Array]) -> Layer:
    def attend(
        o: Options,
        p: Params,
        inputs: Sequence[Array],
        mask: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value = inputs[0], inputs[1]
        scores = scores_of(o, p, query, inputs[2] if len(inputs) > 2 else value)
        query_mask, value_mask = (mask[0], mask[1]) if mask else (None, None)
        keep = np.ones(scores.shape, bool)
        if value_mask is not None:
            keep &= value_mask[..., None, :] if value_mask.ndim == 2 else value_mask
        if use_causal_mask:
            keep &= _causal(*scores.shape[-2:])
        weights = ACTIVATIONS["softmax"].f(np.where(keep, scores, scores - 1e9))
        y = weights @ value
        if query_mask is not None:
            y = np.where(query_mask[..., None], y, 0)
        return (y, weights) if return_attention_scores else y

    return attend


def _causal(T: int, S: int) -> Array:
    return np.arange(T)[:, None] >= np.arange(S)[None]


def _projected(p: Params, name: str, x: Array) -> Array:
    """``[N, T, D]`` to heads, ``[N, M, T, K]``."""
    y = np.einsum("ntd,dmk->nmtk", x, p[f"{name}_dense.kernel"])
    bias = p.get(f"{name}_dense.bias")
    return np.asarray(y if bias is None else y + bias[:, None, :])


def _multi_head(
    o: Options,
    p: Params,
    query: Array,
    value: Array,
    key: Array | None = None,
    query_mask: Array | None = None,
    value_mask: Array | None = None,
    key_mask: Array | None = None,
    attention_mask: Array | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Any:
    q = _projected(p, "query", query)
    k = _projected(p, "key", value if key is None else key)
    v = _projected(p, "value", value)
    T, S = q.shape[2], k.shape[2]
    keep = np.ones((len(q), T, S), bool)
    if query_mask is not None:
        keep &= query_mask[:, :, None]
    for mask in (value_mask, key_mask):
        keep &= True if mask is None else mask[:, None, :]
    if attention_mask is not None:
        keep = keep & np.asarray(attention_mask, bool)
    keep &= _causal(T, S) if use_causal_mask else True
    if o.get("sliding_window"):
        keep &= np.abs(np.arange(T)[:, None] - np.arange(S)[None]) < o["sliding_window"]
    keep = keep[:, None] if keep.ndim == 3 else keep
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(o["key_dim"])
    weights = np.where(keep, ACTIVATIONS["softmax"].f(np.where(keep, scores, -1e9)), 0)
    if not (o.get("dropout") or return_attention_scores):
        # Then Keras takes its backend's own kernel: a query that sees nothing sees all alike.
        weights = np.where(keep.any(axis=-1, keepdims=True), weights, 1 / S)
    y = np.einsum("nmtk,mkd->ntd", weights @ v, p["output_dense.kernel"].reshape(
        v.shape[1], v.shape[3], -1
    ))  # fmt: skip
    y = y.reshape(*y.shape[:2], *p["output_dense.kernel"].shape[2:])
    y = y + p["output_dense.bias"] if "output_dense.bias" in p else y
    return (y, weights) if return_attention_scores else y


KERAS_ATTENTION: dict[str, Layer] = {
    "Attention": _attention(_products),
    "AdditiveAttention": _attention(_sums),
    "MultiHeadAttention": _multi_head,
}
"""Class name → function of options, parameters and inputs."""
