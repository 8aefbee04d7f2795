r"""Attention of heads, each on its own part of the width: who computes it.

.. math:: y = \text{softmax}(s\, q k^T)\, v

On a Linux CPU the fused kernel, as in ``affine``, where nothing is masked.

Shape letters: N batch, L queries, S keys, h heads, E width of all heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation
from lstm_bridge.core.normal import softmax
from lstm_bridge.core.products import matmul


def attend(
    sides: Sequence[mx.array], heads: int, scale: float, weighed: bool = False
) -> tuple[mx.array, mx.array | None] | None:
    """Attend without a mask by the kernel, or return None where it does not serve.

    Args:
        sides: q ``[N, L, E]``, k ``[N, S, E]`` and v ``[N, S, any multiple of h]``; or one array,
            all three side by side, ``[N, L, 3E]``.
        heads: h.
        scale: s, above 0.
        weighed: also return the attention weights. Default: False.

    Returns:
        The heads' outputs side by side, ``[N, L, E]``, and the weights ``[N, h, L, S]`` or None.
    """
    if not DENSE_SERVES:
        return None
    three = sides if len(sides) == 3 else (sides[0], None, None)
    done = (_WEIGHED if weighed else _ATTENTION).fused(three, (heads, scale))
    return None if done is None else (done[0], done[1] if weighed else None)


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    q, k, v = inputs
    assert q is not None
    heads, scale = int(settings[0]), settings[1]
    if k is None or v is None:
        q, k, v = mx.split(q, 3, axis=-1)
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2) for x in (q, k, v))
    weights = softmax(matmul(q * scale, k.swapaxes(-1, -2)), -1)
    y = matmul(weights, v).swapaxes(1, 2)
    return [y.reshape(*y.shape[:2], -1), weights]


_ATTENTION = Operation("LSTMBridgeAttention", lambda *given: _composed(*given)[:1])
_WEIGHED = Operation("LSTMBridgeAttentionWeights", _composed)
