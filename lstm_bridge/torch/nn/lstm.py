"""``torch.nn.LSTM``: layers, directions, projections, dropout, packed sequences."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.stack import run_stack
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.errors import ArgumentTypeError, ShapeError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn.arguments import (
    DEVICE_NOTE,
    DTYPE_NOTE,
    array_like,
    flag,
    integer,
    pair,
    positive,
    probability,
    shape,
    uniform,
    width,
)
from lstm_bridge.torch.nn.module import Module
from lstm_bridge.torch.nn.utils.packed import PackedSequence, pack_steps, pad_steps

_NAME = "torch.nn.LSTM"


class LSTM(Module):
    r"""A multi-layer, optionally bidirectional LSTM with torch's parameters.

    N batch, L length, D input, H hidden, P projection (P = H without one), K directions (1 or 2).

    .. math::
        i_t, f_t, o_t &= \sigma(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})
            \text{ (each gate its own rows)} \\
        g_t &= \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= W_{hr} (o_t \odot \tanh(c_t)), \text{ without } W_{hr} \text{ when proj_size is } 0

    Parameters per layer k, each also with ``_reverse``: ``weight_ih_lk [4H, D or K·P]``,
    ``weight_hh_lk [4H, P]``, ``bias_ih_lk [4H]``, ``bias_hh_lk [4H]``, ``weight_hr_lk [P, H]``;
    rows in the order i, f, g, o. The two biases are separate and both train.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: stacked layers, each reading the one before. Default: 1.
        bias: has the two biases. Default: True.
        batch_first: batched input and output are ``[N, L, ·]`` instead of ``[L, N, ·]``; the states
            keep their layout. Default: False.
        dropout: probability of zeroing an output of every layer but the last, in training mode.
            Default: 0.
        bidirectional: a second direction from the last step to the first. Default: False.
        proj_size: P, or 0 for no projection. Default: 0.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: an argument of the wrong type.
        UsageError: a value outside of its range.

    Source: torch.nn.LSTM 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.dropout = probability(dropout, f"{_NAME} dropout")
        if self.dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={num_layers}",
                stacklevel=2,
            )
        self.bias = flag(bias, f"{_NAME} bias")
        self.batch_first = flag(batch_first, f"{_NAME} batch_first")
        self.input_size = positive(input_size, f"{_NAME} input_size")
        self.hidden_size = positive(hidden_size, f"{_NAME} hidden_size")
        self.num_layers = positive(num_layers, f"{_NAME} num_layers")
        self.proj_size = _projection(proj_size, hidden_size)
        self.bidirectional = bidirectional
        self._make_parameters(float_dtype(dtype, f"{_NAME} dtype"))

    @property
    def all_weights(self) -> list[list[mx.array]]:
        """The parameters of each layer and direction, in torch's order."""
        return [[self[name] for name in names] for names in self._names()]

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(−1/√H, 1/√H)."""
        for name, array in self.parameters().items():
            setattr(self, name, uniform(array.shape, self.hidden_size, array.dtype))

    def flatten_parameters(self) -> None:
        """Do nothing: it lays weights out for cuDNN in torch, and MLX has no such layout."""

    def forward(
        self,
        input: Any,  # noqa: A002  torch's own name
        hx: tuple[Any, Any] | None = None,
    ) -> tuple[mx.array | PackedSequence, tuple[mx.array, mx.array]]:
        """Run over a batch of sequences, one sequence, or a packed batch.

        Args:
            input: ``[L, N, D]`` (``[N, L, D]`` with batch_first), ``[L, D]``, or a PackedSequence;
                in the parameters' dtype.
            hx: ``(h_0, c_0)`` of ``[layers·K, N, P]`` and ``[layers·K, N, H]``, without N for one
                sequence. Default: zeros.

        Returns:
            ``(output, (h_n, c_n))``: output like the input with K·P features, states like hx.

        Raises:
            ShapeError: wrong rank, size or dtype, or no time step at all.
        """
        if hasattr(input, "batch_sizes"):
            return self._run_packed(PackedSequence(*input), hx)
        x = array_like(input, f"{_NAME} input", self.weight_ih_l0)
        if x.ndim not in (2, 3):
            raise ShapeError(
                f"{_NAME} input", expected="2D or 3D", got=f"{x.ndim}D {list(x.shape)}"
            )
        width(x, self.input_size, f"{_NAME} input")
        if x.ndim == 2:
            y, h, c = self._run(x[:, None], *self._states(hx, 1, batched=False))
            return y[:, 0], (h[:, 0], c[:, 0])
        x = x.swapaxes(0, 1) if self.batch_first else x
        y, h, c = self._run(x, *self._states(hx, x.shape[1]))
        return (y.swapaxes(0, 1) if self.batch_first else y), (h, c)

    def extra_repr(self) -> str:
        """Return torch's text: what differs from the defaults."""
        # torch compares flags by identity: a bidirectional=0 is shown, a dropout=0.0 is not.
        shown = {
            "proj_size": self.proj_size != 0,
            "num_layers": self.num_layers != 1,
            "bias": not self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout != 0,
            "bidirectional": self.bidirectional is not False,
        }
        tail = "".join(f", {name}={getattr(self, name)}" for name, odd in shown.items() if odd)
        return f"{self.input_size}, {self.hidden_size}{tail}"

    def _make_parameters(self, dtype: mx.Dtype) -> None:
        H, P, K = self.hidden_size, self.proj_size or self.hidden_size, self._directions
        shapes = {"weight_hh": (4 * H, P), "weight_hr": (P, H)}
        for k, names in enumerate(self._names()):
            D = self.input_size if k < K else K * P
            for name in names:
                kind = name.rsplit("_l", 1)[0]
                size = (4 * H, D) if kind == "weight_ih" else shapes.get(kind, (4 * H,))
                setattr(self, name, uniform(size, H, dtype))

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _names(self) -> list[list[str]]:
        """Parameter names of each layer and direction."""
        kinds = ["weight_ih", "weight_hh"]
        kinds += ["bias_ih", "bias_hh"] if self.bias else []
        kinds += ["weight_hr"] if self.proj_size else []
        suffixes = ("", "_reverse")[: self._directions]
        layers = range(self.num_layers)
        return [[f"{kind}_l{k}{suffix}" for kind in kinds] for k in layers for suffix in suffixes]

    def _weights(self) -> list[list[LSTMWeights]]:
        """Canonical weights, layer by layer."""
        flat = []
        for names in self._names():
            own = {name.rsplit("_l", 1)[0]: self[name] for name in names}
            bias = own["bias_ih"] + own["bias_hh"] if self.bias else None
            weights = LSTMWeights(own["weight_ih"], own["weight_hh"], bias, own.get("weight_hr"))
            flat.append(weights.check(f"{_NAME} {names[0]}"))
        K = self._directions
        return [flat[k : k + K] for k in range(0, len(flat), K)]

    def _run(
        self, x: mx.array, h0: mx.array | None, c0: mx.array | None, mask: mx.array | None = None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Run on time-major ``[L, N, D]``."""
        if x.shape[0] == 0:
            raise ShapeError(
                f"{_NAME} input", expected="a sequence of one step or more", got=str(list(x.shape))
            )
        dropout = self.dropout if self.training else 0.0
        return run_stack(self._weights(), x, h0, c0, mask=mask, dropout=dropout)

    def _states(
        self, hx: Any, N: int, batched: bool = True
    ) -> tuple[mx.array | None, mx.array | None]:
        """Check the initial states and give them their batch axis."""
        if hx is None:
            return None, None
        depth = self.num_layers * self._directions
        states = []
        for k, state in enumerate(pair(hx, f"{_NAME} hx")):
            owner = f"{_NAME} hx[{k}]"
            array = array_like(state, owner, self.weight_hh_l0)
            H = self.hidden_size if k or not self.proj_size else self.proj_size
            shape(array, (depth, N, H) if batched else (depth, H), owner)
            states.append(array if batched else array[:, None])
        return states[0], states[1]

    def _run_packed(
        self, packed: PackedSequence, hx: Any
    ) -> tuple[PackedSequence, tuple[mx.array, mx.array]]:
        """Run a packed batch: pad, skip the padding in both directions, pack again."""
        data, batch_sizes, order, back = packed
        data = array_like(data, f"{_NAME} packed input", self.weight_ih_l0)
        if data.ndim != 2:
            raise ShapeError(
                f"{_NAME} packed input",
                expected="2D data [steps of all sequences, D]",
                got=str(list(data.shape)),
            )
        width(data, self.input_size, f"{_NAME} packed input")
        x, mask = pad_steps(data, batch_sizes)
        h0, c0 = (_permuted(state, order) for state in self._states(hx, x.shape[1]))
        y, h, c = self._run(x, h0, c0, mask)
        output = PackedSequence(pack_steps(y, mask, len(data)), batch_sizes, order, back)
        return output, (_permuted(h, back), _permuted(c, back))


def _permuted(state: Any, order: mx.array | None) -> Any:
    return state if state is None or order is None else state[:, order]


def _projection(value: Any, hidden_size: int) -> int:
    owner = f"{_NAME} proj_size"
    if value == 0:
        return 0
    if isinstance(value, bool):
        raise ArgumentTypeError(owner, expected="an int", got=f"bool {value}")
    size = integer(value, owner)
    if size < 0:
        raise UsageError(owner, expected="a positive integer, or zero for none", got=str(size))
    if size >= hidden_size:
        raise UsageError(owner, expected=f"less than hidden_size {hidden_size}", got=str(size))
    return size
