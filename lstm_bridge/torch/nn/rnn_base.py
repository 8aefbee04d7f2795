"""What torch's recurrent layers share: parameter names, layouts, states and packed sequences."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import ArgumentTypeError, ShapeError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn.arguments import (
    DEVICE_NOTE,
    DTYPE_NOTE,
    array_like,
    flag,
    integer,
    positive,
    probability,
    shape,
    uniform,
    width,
)
from lstm_bridge.torch.nn.module import Module
from lstm_bridge.torch.nn.utils.packed import PackedSequence, pack_steps, pad_steps

States = tuple[mx.array | None, ...]


class RNNBase(Module):
    """Layers × directions of a recurrent cell with torch's parameters.

    N batch, L length, D input, H hidden, P projection (P = H without one), K directions (1 or 2),
    G gates.

    Source: torch.nn.RNNBase 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}
    OWNER: ClassVar[str]
    GATES: ClassVar[int]

    mode = ""

    _flat_names: tuple[str, ...]

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
        name = self.OWNER
        self.dropout = probability(dropout, f"{name} dropout")
        if self.dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={num_layers}",
                stacklevel=3,
            )
        self.bias = flag(bias, f"{name} bias")
        self.batch_first = flag(batch_first, f"{name} batch_first")
        self.input_size = positive(input_size, f"{name} input_size")
        self.hidden_size = positive(hidden_size, f"{name} hidden_size")
        self.num_layers = positive(num_layers, f"{name} num_layers")
        self.proj_size = self._projection(proj_size)
        self.bidirectional = bidirectional
        self._make_parameters(float_dtype(dtype, f"{name} dtype"))

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

    def _given(self, hx: Any) -> tuple[Any, ...]:
        """Return the states of ``hx``, one after the other."""
        return (hx,)

    def _returned(self, states: list[mx.array]) -> Any:
        """Return the last states in the form that the caller gets."""
        return states[0]

    def _run(self, x: mx.array, *states_and_mask: mx.array | None) -> tuple[mx.array, ...]:
        """Run on time-major ``[L, N, D]``: outputs, and the last of every state."""
        raise NotImplementedError

    def _forward(self, input: Any, hx: Any) -> tuple[Any, Any]:  # noqa: A002  torch's own name
        """Run over a batch of sequences, one sequence, or a packed batch."""
        if hasattr(input, "batch_sizes"):
            return self._run_packed(PackedSequence(*input), hx)
        owner = f"{self.OWNER} input"
        x = array_like(input, owner, self.weight_ih_l0)
        if x.ndim not in (2, 3):
            raise ShapeError(owner, expected="2D or 3D", got=f"{x.ndim}D {list(x.shape)}")
        width(x, self.input_size, owner)
        if x.ndim == 2:
            y, *last = self._checked_run(x[:, None], self._states(hx, 1, batched=False))
            return y[:, 0], self._returned([state[:, 0] for state in last])
        x = x.swapaxes(0, 1) if self.batch_first else x
        y, *last = self._checked_run(x, self._states(hx, x.shape[1]))
        return (y.swapaxes(0, 1) if self.batch_first else y), self._returned(last)

    def _checked_run(
        self, x: mx.array, states: States, mask: mx.array | None = None
    ) -> tuple[mx.array, ...]:
        if x.shape[0] == 0:
            raise ShapeError(
                f"{self.OWNER} input",
                expected="a sequence of one step or more",
                got=str(list(x.shape)),
            )
        return self._run(x, *states, mask)

    @property
    def _dropping(self) -> float:
        """Probability of dropping between the layers at this moment."""
        return self.dropout if self.training else 0.0

    def _make_parameters(self, dtype: mx.Dtype) -> None:
        H, P, K, G = self.hidden_size, self._output_size, self._directions, self.GATES
        shapes = {"weight_hh": (G * H, P), "weight_hr": (P, H)}
        self.keep(_flat_names=tuple(name for names in self._names() for name in names))
        for k, names in enumerate(self._names()):
            D = self.input_size if k < K else K * P
            for name in names:
                kind = name.rsplit("_l", 1)[0]
                size = (G * H, D) if kind == "weight_ih" else shapes.get(kind, (G * H,))
                setattr(self, name, uniform(size, H, dtype))

    @property
    def _output_size(self) -> int:
        return self.proj_size or self.hidden_size

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

    def _own(self) -> list[dict[str, mx.array]]:
        """Parameters of each layer and direction by kind."""
        return [{name.rsplit("_l", 1)[0]: self[name] for name in names} for names in self._names()]

    def _by_layer(self, flat: list[Any]) -> list[list[Any]]:
        K = self._directions
        return [flat[k : k + K] for k in range(0, len(flat), K)]

    def _states(self, hx: Any, N: int, batched: bool = True) -> States:
        """Check the initial states and give them their batch axis."""
        if hx is None:
            return (None,) * self._state_count
        depth = self.num_layers * self._directions
        states = []
        given = self._given(hx)
        for k, state in enumerate(given):
            owner = f"{self.OWNER} hx[{k}]" if len(given) > 1 else f"{self.OWNER} hx"
            array = array_like(state, owner, self.weight_hh_l0)
            H = self.hidden_size if k else self._output_size
            shape(array, (depth, N, H) if batched else (depth, H), owner)
            states.append(array if batched else array[:, None])
        return tuple(states)

    @property
    def _state_count(self) -> int:
        return 1

    def _run_packed(self, packed: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        """Run a packed batch: pad, skip the padding in both directions, pack again."""
        owner = f"{self.OWNER} packed input"
        data, batch_sizes, order, back = packed
        data = array_like(data, owner, self.weight_ih_l0)
        if data.ndim != 2:
            raise ShapeError(
                owner, expected="2D data [steps of all sequences, D]", got=str(list(data.shape))
            )
        width(data, self.input_size, owner)
        x, mask = pad_steps(data, batch_sizes)
        states = tuple(_permuted(state, order) for state in self._states(hx, x.shape[1]))
        y, *last = self._checked_run(x, states, mask)
        output = PackedSequence(pack_steps(y, mask, len(data)), batch_sizes, order, back)
        return output, self._returned([_permuted(state, back) for state in last])

    def _projection(self, value: Any) -> int:
        owner = f"{self.OWNER} proj_size"
        if value == 0:
            return 0
        if isinstance(value, bool):
            raise ArgumentTypeError(owner, expected="an int", got=f"bool {value}")
        size = integer(value, owner)
        if size < 0:
            raise UsageError(owner, expected="a positive integer, or zero for none", got=str(size))
        if size >= self.hidden_size:
            raise UsageError(
                owner, expected=f"less than hidden_size {self.hidden_size}", got=str(size)
            )
        return size


def _permuted(state: Any, order: mx.array | None) -> Any:
    return state if state is None or order is None else state[:, order]
