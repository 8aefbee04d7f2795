"""Operations of a recorded TorchScript graph whose arguments differ from torch's functions.

N batch, L length, D input, H hidden.

Source: aten's native functions 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import mlx.core as mx

from lstm_bridge.core import gru as gru_core
from lstm_bridge.core import simple_rnn
from lstm_bridge.core.activations import Activation, relu
from lstm_bridge.core.recurrence import Direction, run_layers
from lstm_bridge.core.stack import run_stack
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.functional.embedding import renormed
from lstm_bridge.torch.tensor.indexing import getitem
from lstm_bridge.torch.tensor.shapes import to

Arrays = Sequence[mx.array]


def lstm(
    input: mx.array,  # noqa: A002
    hx: Arrays,
    params: Arrays,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[mx.array, mx.array, mx.array]:
    """Run a whole LSTM: its weights come flat, layer by layer and direction by direction."""
    weights = [
        LSTMWeights(p[0], p[1], p[2] + p[3] if has_biases else None, _projection(p, has_biases))
        for p in _groups(params, num_layers * (2 if bidirectional else 1))
    ]
    x = input.swapaxes(0, 1) if batch_first else input
    rate = dropout if train else 0.0
    y, h, c = run_stack(_by_layer(weights, bidirectional), x, hx[0], hx[1], dropout=rate)
    return (y.swapaxes(0, 1) if batch_first else y), h, c


def gru(
    input: mx.array,  # noqa: A002
    hx: mx.array,
    params: Arrays,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[mx.array, mx.array]:
    """Run a whole GRU, as :func:`lstm` does."""
    directions: list[Direction] = []
    for p in _groups(params, num_layers * (2 if bidirectional else 1)):
        biases = (p[2], p[3]) if has_biases else (None, None)
        weights = gru_core.GRUWeights(p[0], p[1], *biases)
        directions.append(partial(gru_core.run, weights))
    return _run(directions, input, hx, dropout if train else 0.0, bidirectional, batch_first)


def _rnn(activation: Activation) -> Callable[..., tuple[mx.array, mx.array]]:
    def run(
        input: mx.array,  # noqa: A002
        hx: mx.array,
        params: Arrays,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[mx.array, mx.array]:
        directions: list[Direction] = []
        for p in _groups(params, num_layers * (2 if bidirectional else 1)):
            biases = (p[2], p[3]) if has_biases else (None, None)
            weights = simple_rnn.SimpleRNNWeights(p[0], p[1], *biases)
            directions.append(partial(simple_rnn.run, weights, activation=activation))
        return _run(directions, input, hx, dropout if train else 0.0, bidirectional, batch_first)

    return run


def _run(
    directions: list[Direction],
    x: mx.array,
    hx: mx.array,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[mx.array, mx.array]:
    x = x.swapaxes(0, 1) if batch_first else x
    y, h = run_layers(_by_layer(directions, bidirectional), x, hx, dropout=dropout)
    return (y.swapaxes(0, 1) if batch_first else y), h


def _groups(params: Arrays, count: int) -> list[Arrays]:
    size = len(params) // count
    return [params[k * size : (k + 1) * size] for k in range(count)]


def _projection(params: Arrays, has_biases: bool) -> mx.array | None:
    return params[-1] if len(params) == (5 if has_biases else 3) else None


def _by_layer(flat: list[Any], bidirectional: bool) -> list[list[Any]]:
    K = 2 if bidirectional else 1
    return [flat[k : k + K] for k in range(0, len(flat), K)]


def slice_(
    self: mx.array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> mx.array:
    """A part of an axis."""
    part = slice(start, end, step)
    return getitem(self, (*[slice(None)] * (dim % self.ndim), part))  # type: ignore[no-any-return]


def embedding(
    weight: mx.array,
    indices: mx.array,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> mx.array:
    """Rows of a table; -1 stands for no padding."""
    return functional.embedding(indices, weight, None if padding_idx < 0 else padding_idx)


def batch_norm(
    input: mx.array,  # noqa: A002
    weight: mx.array | None,
    bias: mx.array | None,
    running_mean: mx.array | None,
    running_var: mx.array | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> mx.array:
    """Normalise channels, with the arguments in aten's order."""
    return functional.batch_norm(
        input, running_mean, running_var, weight, bias, training, momentum, eps
    )


def layer_norm(
    input: mx.array,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> mx.array:
    """Normalise over the last axes."""
    return functional.layer_norm(input, normalized_shape, weight, bias, eps)


def convolution(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    *flags: bool,
) -> mx.array:
    """Slide windows over one axis or two, or add them up."""
    if transposed:
        return functional.conv_transpose1d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    return functional.conv1d(input, weight, bias, stride, padding, dilation, groups)


def cast(self: Any, *args: Any, dtype: str | None = None) -> Any:
    """Cast to the dtype among the arguments, if any."""
    return to(self, *[a for a in (*args, dtype) if isinstance(a, str)])


def unpacked(value: Any, place: int) -> Any:
    """One of the parts of a tuple, list or array."""
    return value[place]


ATEN: dict[str, Callable[..., Any]] = {
    "lstm": lstm,
    "gru": gru,
    "rnn_tanh": _rnn(mx.tanh),
    "rnn_relu": _rnn(relu),
    "slice": slice_,
    "embedding": embedding,
    "embedding_renorm": renormed,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "_convolution": convolution,
    "to": cast,
    "unpacked": unpacked,
}
"""aten's name → function, where torch's own function of that name takes other arguments."""
