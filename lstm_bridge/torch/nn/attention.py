"""``torch.nn.MultiheadAttention``.

N batch, L queries, S keys, E width, h heads.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.attention import attend
from lstm_bridge.core.products import matmul
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE, positive
from lstm_bridge.torch.nn.functional.attention import masked
from lstm_bridge.torch.nn.linear import Linear
from lstm_bridge.torch.nn.module import Module

_NAME = "torch.nn.MultiheadAttention"


class MultiheadAttention(Module):
    r"""Attention of h heads, each on its own part of the width.

    .. math::
        y = W_o\,[\ldots \text{softmax}(Q_k K_k^T / \sqrt{E/h} + mask)\, V_k \ldots] + b_o

    Parameters: ``in_proj_weight [3E, E]`` (or ``q_proj_weight``, ``k_proj_weight`` and
    ``v_proj_weight`` when key or value have a width of their own), ``in_proj_bias [3E]``,
    ``out_proj``, and ``bias_k``, ``bias_v [1, 1, E]``.

    Args:
        embed_dim: E.
        num_heads: h.
        dropout: probability of dropping an attention weight while training. Default: 0.
        bias: the projections have biases. Default: True.
        add_bias_kv: a learned key and value at the end. Default: False.
        add_zero_attn: a key and value of zeros at the end. Default: False.
        kdim: width of the keys. Default: E.
        vdim: width of the values. Default: E.
        batch_first: ``[N, L, E]`` instead of ``[L, N, E]``. Default: False.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        UsageError: sizes below 1, or a width that the heads do not divide.

    Source: torch.nn.MultiheadAttention 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        E = self.embed_dim = positive(embed_dim, f"{_NAME} embed_dim")
        self.num_heads = positive(num_heads, f"{_NAME} num_heads")
        if E % num_heads:
            raise UsageError(
                f"{_NAME} embed_dim", expected=f"a multiple of {num_heads}", got=str(E)
            )
        self.kdim, self.vdim = E if kdim is None else kdim, E if vdim is None else vdim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.head_dim = E // num_heads
        kind = float_dtype(dtype, f"{_NAME} dtype")
        if self._same_width:
            self.in_proj_weight = _xavier((3 * E, E), kind)
        else:
            self.q_proj_weight = _xavier((E, E), kind)
            self.k_proj_weight = _xavier((E, self.kdim), kind)
            self.v_proj_weight = _xavier((E, self.vdim), kind)
        self.in_proj_bias = mx.zeros((3 * E,), kind) if bias else None
        self.bias_k = mx.random.normal((1, 1, E)).astype(kind) if add_bias_kv else None
        self.bias_v = mx.random.normal((1, 1, E)).astype(kind) if add_bias_kv else None
        # Last, because torch lists a module's own parameters before its children's.
        self.out_proj = Linear(E, E, bias, dtype=dtype)
        if bias:
            self.out_proj.bias = mx.zeros((E,), kind)

    @property
    def _same_width(self) -> bool:
        return bool(self.kdim == self.embed_dim and self.vdim == self.embed_dim)

    def forward(
        self,
        query: mx.array,
        key: mx.array,
        value: mx.array,
        key_padding_mask: mx.array | None = None,
        need_weights: bool = True,
        attn_mask: mx.array | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[mx.array, mx.array | None]:
        """Attend.

        Args:
            query: ``[L, N, E]`` (``[N, L, E]`` with batch_first) or ``[L, E]``.
            key: ``[S, N, kdim]``, likewise.
            value: ``[S, N, vdim]``, likewise.
            key_padding_mask: ``[N, S]`` or ``[S]``; True, or -inf, hides a key. Default: None.
            need_weights: return the attention weights too. Default: True.
            attn_mask: ``[L, S]`` or ``[N·h, L, S]``; True hides, numbers are added. Default: None.
            average_attn_weights: return the heads' mean of the weights. Default: True.
            is_causal: a hint that ``attn_mask`` is causal; as in torch it needs the mask, which
                is what is applied. Default: False.

        Returns:
            Output like the query, and weights ``[N, L, S]`` (``[N, h, L, S]`` without averaging;
            without N for unbatched input), or None.

        Raises:
            ShapeError: ranks that do not fit.
            UsageError: is_causal without a mask.
        """
        if is_causal and attn_mask is None:
            raise UsageError(f"{_NAME} is_causal", expected="an attn_mask with it", got="None")
        batched = query.ndim == 3
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ShapeError(
                f"{_NAME} query, key, value",
                expected="all 2D or all 3D",
                got=f"{query.ndim}D, {key.ndim}D, {value.ndim}D",
            )
        given = [query] if query is key is value and self._same_width else [query, key, value]
        inputs = [self._batch_first(x, batched) for x in given]
        if key_padding_mask is not None and not batched:
            key_padding_mask = key_padding_mask[None]
        y, weights = self._attend(inputs, key_padding_mask, attn_mask, need_weights)
        y = y[0] if not batched else (y if self.batch_first else y.swapaxes(0, 1))
        if weights is None or not need_weights:
            return y, None
        weights = mx.mean(weights, axis=1) if average_attn_weights else weights
        return y, (weights if batched else weights[0])

    def _batch_first(self, x: mx.array, batched: bool) -> mx.array:
        if not batched:
            return x[None]
        return x if self.batch_first else x.swapaxes(0, 1)

    def _attend(
        self,
        inputs: list[mx.array],
        padding: mx.array | None,
        mask: mx.array | None,
        need_weights: bool,
    ) -> tuple[mx.array, mx.array | None]:
        """Attend with ``[N, L, E]`` and ``[N, S, ·]``: output and weights ``[N, h, L, S]``."""
        projected = self._projected(inputs)
        changed = self.bias_k is not None or self.add_zero_attn or (self.dropout and self.training)
        if padding is None and mask is None and not changed:
            done = attend(projected, self.num_heads, self.head_dim**-0.5, need_weights)
            if done is not None:
                return self.out_proj(done[0]), done[1]
        q, k, v = projected if len(projected) == 3 else mx.split(projected[0], 3, axis=-1)
        N, L, E = q.shape
        extra = 0
        if self.bias_k is not None and self.bias_v is not None:
            k, v = _appended(k, self.bias_k), _appended(v, self.bias_v)
            extra += 1
        if self.add_zero_attn:
            nothing = mx.zeros((1, 1, E), k.dtype)
            k, v = _appended(k, nothing), _appended(v, nothing)
            extra += 1
        q, k, v = (self._heads(x) for x in (q, k, v))
        scores = matmul(q * self.head_dim**-0.5, k.swapaxes(-1, -2))
        if mask is not None:
            mask = mask if mask.ndim == 2 else mask.reshape(N, self.num_heads, *mask.shape[1:])
            scores = masked(scores, _widened(mask, extra), hidden=True)
        if padding is not None:
            scores = masked(scores, _widened(padding, extra)[:, None, None], hidden=True)
        weights = functional.softmax(scores, -1)
        weights = functional.dropout(weights, self.dropout, self.training)
        y = matmul(weights, v).swapaxes(1, 2).reshape(N, L, E)
        return self.out_proj(y), weights

    def _projected(self, inputs: list[mx.array]) -> list[mx.array]:
        """Queries, keys and values; of one input for all of them side by side."""
        if len(inputs) == 1:
            return [functional.linear(inputs[0], self.in_proj_weight, self.in_proj_bias)]
        if self._same_width:
            matrices = list(mx.split(self.in_proj_weight, 3))
        else:
            matrices = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        whole = self.in_proj_bias
        biases = (None,) * 3 if whole is None else mx.split(whole, 3)
        return [
            functional.linear(x, W, b) for x, W, b in zip(inputs, matrices, biases, strict=True)
        ]

    def _heads(self, x: mx.array) -> mx.array:
        """``[N, S, E] -> [N, h, S, E/h]``."""
        return x.reshape(*x.shape[:2], self.num_heads, self.head_dim).swapaxes(1, 2)


def _xavier(shape: tuple[int, int], dtype: mx.Dtype) -> mx.array:
    bound = (6 / sum(shape)) ** 0.5
    return mx.random.uniform(-bound, bound, shape).astype(dtype)


def _appended(x: mx.array, last: mx.array) -> mx.array:
    """Put ``[1, 1, E]`` behind the steps of ``[N, S, E]``."""
    return mx.concatenate([x, mx.broadcast_to(last, (len(x), 1, x.shape[2]))], axis=1)


def _widened(mask: mx.array, extra: int) -> mx.array:
    """Show the keys that were appended."""
    return mx.pad(mask, [(0, 0)] * (mask.ndim - 1) + [(0, extra)]) if extra else mask
