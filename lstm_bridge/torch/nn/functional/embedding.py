"""``torch.nn.functional``'s tables: embedding, bags of them, one-hot.

V vocabulary, E width, N rows.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError


def embedding(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> mx.array:
    """Return the rows of ``weight [V, E]`` at the indices.

    Args:
        input: integers in ``[0, V)``, any shape.
        weight: the table.
        padding_idx: row that gets no gradient. Default: None.
        max_norm: a longer row is scaled down to it before it is read. torch also leaves the
            table so; here an ``nn.Embedding`` that trains does. Default: None.
        norm_type: which norm: p, or infinity. Default: 2.
        scale_grad_by_freq: refused, because it is a rule of torch's own backward pass.
            Default: False.
        sparse: no effect here, because MLX's gradients are dense. Default: False.
    """
    refuse_options("embedding", scale_grad_by_freq)
    _integers(input, "embedding input")
    return within_norm(_rows(weight, padding_idx)[input], max_norm, norm_type)


def embedding_bag(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    offsets: mx.array | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: mx.array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> mx.array:
    """Return the sum, mean or maximum of each bag's rows.

    Args:
        input: ``[N, K]`` bags of K indices, or ``[S]`` all bags' indices end to end.
        weight: the table, ``[V, E]``.
        offsets: where each bag starts in ``[S]``. Default: None.
        max_norm: as in :func:`embedding`. Default: None.
        norm_type: as in :func:`embedding`. Default: 2.
        scale_grad_by_freq: refused, as in :func:`embedding`.
        mode: "sum", "mean" or "max". Default: "mean".
        sparse: no effect here, because MLX's gradients are dense.
        per_sample_weights: factors of the rows, like the input; with "sum" only. Default: None.
        include_last_offset: the last offset is the end of the last bag. Default: False.
        padding_idx: index that counts as absent. Default: None.

    Returns:
        ``[bags, E]``; an empty bag gives zeros.
    """
    refuse_options("embedding_bag", scale_grad_by_freq)
    _integers(input, "embedding_bag input")
    if mode not in ("sum", "mean", "max"):
        raise UsageError("embedding_bag mode", expected="'sum', 'mean' or 'max'", got=repr(mode))
    if per_sample_weights is not None and mode != "sum":
        raise UsageError("embedding_bag per_sample_weights", expected="mode 'sum'", got=repr(mode))
    flat, owner, bags = _bags(input, offsets, include_last_offset)
    rows = within_norm(weight[flat], max_norm, norm_type)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    here = mx.arange(bags)[:, None] == owner[None, :]
    if padding_idx is not None:
        here = here & (flat != padding_idx % len(weight))[None, :]
    if mode == "max":
        return _largest(rows, here)
    total = here.astype(rows.dtype) @ rows
    counts = mx.maximum(mx.sum(here, axis=1, keepdims=True), 1)
    return total / counts.astype(rows.dtype) if mode == "mean" else total


def one_hot(input: mx.array, num_classes: int = -1) -> mx.array:  # noqa: A002
    """Return int64 zeros with a 1 at each index: ``[*] -> [*, num_classes]``."""
    largest: Any = mx.max(input).item() if num_classes < 0 else num_classes - 1
    width = int(largest) + 1
    return (input[..., None] == mx.arange(width)).astype(mx.int64)


def within_norm(rows: mx.array, max_norm: float | None, norm_type: float) -> mx.array:
    """Return rows of a norm of at most ``max_norm``; the scaling has no part in gradients.

    Args:
        rows: ``[*, E]``.
        max_norm: the largest norm. None leaves the rows as they are.
        norm_type: p of the norm, or infinity.
    """
    if max_norm is None:
        return rows
    held = mx.stop_gradient(rows)
    wide = held.astype(mx.float32) if held.dtype in (mx.float16, mx.bfloat16) else held
    norm = mx.linalg.norm(wide, norm_type, axis=-1, keepdims=True)
    scale = mx.where(norm > max_norm, max_norm / (norm + 1e-7), mx.ones_like(norm))
    return (held * scale.astype(rows.dtype)) + (rows - held)


def renormed(table: mx.array, indices: mx.array, max_norm: float, norm_type: float) -> mx.array:
    """Return a table whose rows at the indices have a norm of at most ``max_norm``."""
    held = mx.stop_gradient(table)
    scaled = mx.array(held)
    if indices.size:
        scaled[indices] = within_norm(held[indices], max_norm, norm_type)
    return scaled + (table - held)


def refuse_options(owner: str, scale_grad_by_freq: bool) -> None:
    """Refuse what only torch's own backward pass can do.

    Raises:
        UnsupportedError: naming the option.
    """
    if scale_grad_by_freq:
        raise UnsupportedError(
            f"torch.nn.{owner} scale_grad_by_freq",
            expected="False, because it is a rule of torch's own backward pass",
            got="True",
        )


def _integers(x: mx.array, owner: str) -> None:
    if not mx.issubdtype(x.dtype, mx.integer):
        raise ShapeError(f"{owner} dtype", expected="integers", got=str(x.dtype))


def _rows(weight: mx.array, padding_idx: int | None) -> mx.array:
    if padding_idx is None:
        return weight
    is_padding = (mx.arange(len(weight)) == padding_idx % len(weight))[:, None]
    return mx.where(is_padding, mx.stop_gradient(weight), weight)


def _bags(
    x: mx.array, offsets: mx.array | None, include_last: bool
) -> tuple[mx.array, mx.array, int]:
    """Return all indices end to end, the bag that each belongs to, and how many bags there are."""
    if x.ndim == 2:
        if offsets is not None:
            raise UsageError("embedding_bag offsets", expected="None with 2D input", got="an array")
        N, K = x.shape
        return x.reshape(-1), mx.repeat(mx.arange(N), K), N
    if x.ndim != 1 or offsets is None:
        raise ShapeError(
            "embedding_bag input", expected="2D, or 1D with offsets", got=str(list(x.shape))
        )
    starts = offsets[:-1] if include_last else offsets
    owner = mx.sum(mx.arange(x.size)[:, None] >= starts[None, :], axis=1) - 1
    return x, owner, starts.size


def _largest(rows: mx.array, here: mx.array) -> mx.array:
    low = mx.array(float("-inf")).astype(rows.dtype)
    best = mx.max(mx.where(here[..., None], rows[None], low), axis=1)
    return mx.where(mx.any(here, axis=1, keepdims=True), best, mx.zeros_like(best))
