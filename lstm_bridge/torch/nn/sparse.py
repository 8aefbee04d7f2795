"""``torch.nn.Embedding`` and ``torch.nn.EmbeddingBag``.

V vocabulary, E width.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE
from lstm_bridge.torch.nn.functional.embedding import refuse_options, renormed
from lstm_bridge.torch.nn.module import Module

_NOTES = {
    "max_norm": "same values; the table itself changes in training mode only, where torch changes "
    "it at every call",
    "scale_grad_by_freq": "refused, because it is a rule of torch's own backward pass",
    "sparse": "no effect here, because MLX's gradients are dense",
    "device": DEVICE_NOTE,
    "dtype": DTYPE_NOTE,
}


class _Table(Module):
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def _setup(self, V: int, E: int, padding_idx: int | None, given: Any, dtype: Any) -> None:
        owner = f"torch.nn.{type(self).__name__}"
        self.num_embeddings, self.embedding_dim = V, E
        if padding_idx is not None and not -V <= padding_idx < V:
            raise UsageError(
                f"{owner} padding_idx", expected=f"within {V} rows", got=str(padding_idx)
            )
        self.padding_idx = None if padding_idx is None else padding_idx % V
        kind = float_dtype(dtype, f"{owner} dtype")
        if given is None:
            self.weight = mx.zeros((V, E), kind)
            self.reset_parameters()
        else:
            self.weight = as_array(given, f"{owner} _weight")
            if self.weight.shape != (V, E):
                raise UsageError(
                    f"{owner} _weight", expected=f"shape [{V}, {E}]", got=str(self.weight.shape)
                )

    def _table(self, indices: mx.array) -> mx.array:
        """Return the table to read from; in training mode, what is read of it stays scaled."""
        table: mx.array = self.weight
        if self.max_norm is None or not self.training:
            return table
        scaled = renormed(table, indices, self.max_norm, self.norm_type)
        self.weight = mx.stop_gradient(scaled)
        return scaled

    def reset_parameters(self) -> None:
        """Draw the table anew from the standard normal distribution, zeros for the padding."""
        drawn = mx.random.normal(self.weight.shape).astype(self.weight.dtype)
        if self.padding_idx is not None:
            drawn[self.padding_idx] = 0
        self.weight = drawn


class Embedding(_Table):
    """A table of vectors.

    Parameters: ``weight [V, E]``.

    Args:
        num_embeddings: V.
        embedding_dim: E.
        padding_idx: row that starts at zero and gets no gradient. Default: None.
        max_norm: a longer row is scaled down to this norm when it is read, and in training mode
            stays so. Default: None.
        norm_type: p of that norm, or infinity. Default: 2.
        scale_grad_by_freq: refused (``ARGUMENT_NOTES`` says why). Default: False.
        sparse: no effect here (``ARGUMENT_NOTES`` says why). Default: False.
        _weight: the table to start from. Default: None, drawn.
        _freeze: the table is not trainable. Default: False.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the table, or its name. Default: float32.

    Raises:
        UnsupportedError: a refused option.

    Source: torch.nn.Embedding 2.13.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        refuse_options("Embedding", scale_grad_by_freq)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self._setup(num_embeddings, embedding_dim, padding_idx, _weight, dtype)
        if _freeze:
            self.freeze()

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[*, E]`` for integers ``input [*]`` in ``[0, V)``."""
        indices = as_array(input, "torch.nn.Embedding input")
        table = self._table(indices)
        norm = self.max_norm, self.norm_type
        return functional.embedding(indices, table, self.padding_idx, *norm)

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> mlx.nn.Module:
        """Return MLX's quantized embedding of the same table."""
        if self.max_norm is not None:
            raise UnsupportedError(
                "quantize torch.nn.Embedding", expected="max_norm None", got=str(self.max_norm)
            )
        return mlx.nn.QuantizedEmbedding.from_embedding(self, group_size, bits, mode)

    def extra_repr(self) -> str:
        """Return torch's text: what differs from the defaults."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        text += "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        text += "" if self.max_norm is None else f", max_norm={self.max_norm}"
        text += "" if self.norm_type == 2 else f", norm_type={self.norm_type}"
        return text + (", sparse=True" if self.sparse else "")


class EmbeddingBag(_Table):
    """Sums, means or maxima of bags of a table's vectors.

    Parameters: ``weight [V, E]``.

    Args:
        num_embeddings: V.
        embedding_dim: E.
        max_norm: a longer row is scaled down to this norm when it is read, and in training mode
            stays so. Default: None.
        norm_type: p of that norm, or infinity. Default: 2.
        scale_grad_by_freq: refused (``ARGUMENT_NOTES`` says why). Default: False.
        mode: "sum", "mean" or "max". Default: "mean".
        sparse: no effect here (``ARGUMENT_NOTES`` says why). Default: False.
        _weight: the table to start from. Default: None, drawn.
        include_last_offset: the last offset is the end of the last bag. Default: False.
        padding_idx: index that counts as absent. Default: None.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the table, or its name. Default: float32.

    Raises:
        UnsupportedError: a refused option.

    Source: torch.nn.EmbeddingBag 2.13.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        refuse_options("EmbeddingBag", scale_grad_by_freq)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.mode, self.include_last_offset = mode, include_last_offset
        self._setup(num_embeddings, embedding_dim, padding_idx, _weight, dtype)

    def forward(
        self,
        input: mx.array,  # noqa: A002
        offsets: mx.array | None = None,
        per_sample_weights: mx.array | None = None,
    ) -> mx.array:
        """Return ``[bags, E]``.

        Args:
            input: ``[N, K]`` bags of K indices, or ``[S]`` all bags' indices end to end.
            offsets: where each bag starts in ``[S]``. Default: None.
            per_sample_weights: factors of the rows, like the input; with "sum" only.
        """
        return functional.embedding_bag(
            input,
            self._table(input),
            offsets,
            self.max_norm,
            self.norm_type,
            mode=self.mode,
            per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset,
            padding_idx=self.padding_idx,
        )

    def extra_repr(self) -> str:
        """Return torch's text: what differs from the defaults."""
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        text += "" if self.max_norm is None else f", max_norm={self.max_norm}"
        text += "" if self.norm_type == 2 else f", norm_type={self.norm_type}"
        text += f", mode={self.mode!r}"
        return text + ("" if self.padding_idx is None else f", padding_idx={self.padding_idx}")
