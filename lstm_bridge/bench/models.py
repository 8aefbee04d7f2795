"""What is timed besides single LSTMs: other recurrent layers, and whole models.

A whole model's training step is not timed: ported models are there to predict.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lstm_bridge.bench.peers import Peer, Work

OURS, ORIGINAL, STOCK = "lstm_bridge", "the original", "mlx.nn's own"


class Subject(NamedTuple):
    """One case: its name, what it needs installed, and its sides.

    Args:
        label: the case as the tables spell it.
        needs: the distribution that is imported for it.
        make: the sides, ours first.
        flops: multiply-adds of one forward pass, counted as two operations each.
        modes: what of a side is timed.
    """

    label: str
    needs: str
    make: Callable[[], dict[str, Peer]]
    flops: float
    modes: tuple[str, ...] = ("forward", "train")


def _forecasting_layer(kind: str, N: int, L: int, D: int, H: int) -> dict[str, Peer]:
    import pytorch_forecasting.layers
    import torch

    import lstm_bridge.pytorch_forecasting.layers as own

    theirs = getattr(pytorch_forecasting.layers, kind)(D, H, num_layers=2).eval()
    ours = getattr(own, kind)(D, H, num_layers=2)
    ours.eval()
    x = torch.randn(L, N, D)
    return {OURS: _by_mlx(ours, x), ORIGINAL: _by_torch(theirs, x)}


def _torch_layer(kind: str, N: int, L: int, D: int, H: int) -> dict[str, Peer]:
    import mlx.nn
    import torch

    import lstm_bridge.torch.nn as own

    theirs, ours, stock = (getattr(module, kind)(D, H) for module in (torch.nn, own, mlx.nn))
    x = torch.randn(L, N, D)
    return {
        OURS: _by_mlx(ours, x),
        ORIGINAL: _by_torch(theirs, x),
        STOCK: _by_mlx(stock, x.swapaxes(0, 1), output=lambda y: y),
    }


def _keras_layer(kind: str, N: int, L: int, D: int, H: int) -> dict[str, Peer]:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import torch

    import lstm_bridge.keras.layers as own

    theirs, ours = (
        getattr(module, kind)(H, return_sequences=True, return_state=True)
        for module in (keras.layers, own)
    )
    x = torch.randn(N, L, D)
    for layer in (theirs, ours):
        layer.build((N, L, D))
    return {OURS: _by_mlx(ours, x), ORIGINAL: _by_torch(theirs, x)}


def _by_mlx(model: Any, x: Any, output: Callable[[Any], Any] = itemgetter(0)) -> Peer:
    import mlx.core as mx
    import mlx.nn as nn

    given = mx.array(x.numpy())
    mx.eval(given, model.parameters())
    both = nn.value_and_grad(model, lambda model, x: output(model(x)).square().sum())
    return Peer(lambda: mx.eval(model(given)), lambda: mx.eval(both(model, given)))


def _by_torch(model: Any, x: Any) -> Peer:
    def train() -> None:
        for weight in model.parameters():
            weight.grad = None
        model(x)[0].square().sum().backward()

    return Peer(_without_gradient(partial(model, x)), train)


def _keras_model(N: int) -> dict[str, Peer]:
    """Embedding, bidirectional LSTM, LSTM, Dense: 64 words of 500."""
    import numpy as np

    keras = _keras()
    layers = keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Embedding(500, 64),
            layers.Bidirectional(layers.LSTM(64, return_sequences=True)),
            layers.LSTM(64),
            layers.Dense(8, activation="softmax"),
        ]
    )
    return _predictions(theirs, np.random.default_rng(0).integers(0, 500, (N, 64)))


def _keras_convolutions(N: int) -> dict[str, Peer]:
    """Convolution, pooling, LSTM, Dense: 128 steps of 16 features."""
    import numpy as np

    keras = _keras()
    layers = keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((128, 16)),
            layers.Conv1D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling1D(2),
            layers.LSTM(64),
            layers.Dense(10, activation="softmax"),
        ]
    )
    x = np.random.default_rng(0).standard_normal((N, 128, 16)).astype(np.float32)
    return _predictions(theirs, x)


def _keras() -> Any:
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    return keras


def _predictions(theirs: Any, x: Any) -> dict[str, Peer]:
    import lstm_bridge

    with TemporaryDirectory() as folder:
        file, target = Path(folder, "model.keras"), Path(folder, "model")
        theirs.save(file)
        lstm_bridge.convert(file, target)
        ours: Any = lstm_bridge.load(target)
    return {
        OURS: _forward_only(lambda: ours.predict(x, verbose=0)),
        ORIGINAL: _forward_only(lambda: theirs.predict(x, verbose=0)),
    }


def _torch_model(N: int) -> dict[str, Peer]:
    """Two layers of LSTM and a linear map of the last step: 100 steps of 16 features."""
    import torch

    class Forecaster(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(16, 64, num_layers=2, batch_first=True)
            self.head = torch.nn.Linear(64, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    return _calls(Forecaster(), torch.randn(N, 100, 16))


def _torch_attention(N: int) -> dict[str, Peer]:
    """LSTM, four heads of attention, layer norm, linear map of the mean: 64 steps, 32 features."""
    import torch

    class Attentive(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(32, 64, batch_first=True)
            self.attention = torch.nn.MultiheadAttention(64, 4, batch_first=True)
            self.norm = torch.nn.LayerNorm(64)
            self.head = torch.nn.Linear(64, 8)

        def forward(self, x: Any) -> Any:
            h, _ = self.lstm(x)
            y, _ = self.attention(h, h, h, need_weights=False)
            return self.head(self.norm(h + y).mean(1))

    return _calls(Attentive(), torch.randn(N, 64, 32))


# Of a CRNN's convolutions of 3 by 3: channels in and out, pixels, and the pooling behind.
_CONVOLUTIONS = ((1, 16, 3200, 2), (16, 32, 800, 2), (32, 64, 200, (2, 1)), (64, 64, 100, (2, 1)))


def _torch_crnn(N: int) -> dict[str, Peer]:
    """Convolutions, batch norms and pooling, bidirectional LSTM, linear map: 32 by 100 pixels."""
    import torch

    class Recognizer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.images = torch.nn.Sequential()
            for inputs, outputs, _, pooled in _CONVOLUTIONS:
                self.images.append(torch.nn.Conv2d(inputs, outputs, 3, padding=1))
                self.images.append(torch.nn.BatchNorm2d(outputs))
                self.images.append(torch.nn.ReLU())
                self.images.append(torch.nn.MaxPool2d(pooled))
            self.lstm = torch.nn.LSTM(128, 64, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(128, 37)

        def forward(self, x: Any) -> Any:
            columns = self.images(x).flatten(1, 2).transpose(1, 2)
            return self.head(self.lstm(columns)[0])

    return _calls(Recognizer(), torch.randn(N, 1, 32, 100))


def _calls(model: Any, x: Any) -> dict[str, Peer]:
    import mlx.core as mx

    import lstm_bridge

    theirs = model.eval()
    ours: Any = lstm_bridge.port(theirs)
    ours.eval()
    y = mx.array(x.numpy())
    mx.eval(y, ours.parameters())
    return {
        OURS: _forward_only(lambda: mx.eval(ours(y))),
        ORIGINAL: _forward_only(_without_gradient(partial(theirs, x))),
    }


def _forward_only(work: Work) -> Peer:
    return Peer(work, work)


def _without_gradient(work: Work) -> Work:
    import torch

    def run() -> object:
        with torch.no_grad():
            return work()

    return run


def _layer_flops(matmuls: float, N: int, L: int) -> float:
    return 2 * matmuls * N * L


def _layer_subject(
    label: str, make: Callable[..., dict[str, Peer]], kind: str, gates: int, sizes: tuple[int, ...]
) -> Subject:
    N, L, D, H = sizes
    return Subject(
        f"{label} {N},{L},{D},{H}",
        "keras" if make is _keras_layer else "torch",
        partial(make, kind, *sizes),
        _layer_flops(gates * H * (D + H), N, L),
    )


SUBJECTS = (
    *(
        _layer_subject(label, _torch_layer, label, gates, sizes)
        for label, gates in (("GRU", 3), ("RNN", 1))
        for sizes in ((1, 64, 16, 32), (32, 64, 32, 64), (32, 128, 128, 256))
    ),
    _layer_subject("Keras GRU", _keras_layer, "GRU", 3, (32, 64, 32, 64)),
    Subject(
        "mLSTM 32,128,32,128, 2 layers",
        "pytorch_forecasting",
        partial(_forecasting_layer, "mLSTMLayer", 32, 128, 32, 128),
        _layer_flops(5 * 128 * (32 + 128), 32, 128),
    ),
    Subject(
        "sLSTM 32,128,32,128, 2 layers",
        "pytorch_forecasting",
        partial(_forecasting_layer, "sLSTMLayer", 32, 128, 32, 128),
        _layer_flops(4 * 128 * (32 + 128 + 128 + 128), 32, 128),
    ),
    *(
        Subject(
            f"Keras model, predict {N}",
            "keras",
            partial(_keras_model, N),
            _layer_flops(4 * 64 * (2 * (64 + 64) + 128 + 64), N, 64),
            ("forward",),
        )
        for N in (1, 32)
    ),
    *(
        Subject(
            f"Keras convolutions, predict {N}",
            "keras",
            partial(_keras_convolutions, N),
            _layer_flops(2 * 5 * 16 * 64 + 4 * 64 * (64 + 64), N, 64),
            ("forward",),
        )
        for N in (1, 32)
    ),
    *(
        Subject(
            f"torch attention, {N}",
            "torch",
            partial(_torch_attention, N),
            _layer_flops(4 * 64 * (32 + 64) + 4 * 64 * 64 + 2 * 64 * 64, N, 64),
            ("forward",),
        )
        for N in (1, 32)
    ),
    *(
        Subject(
            f"torch CRNN, {N}",
            "torch",
            partial(_torch_crnn, N),
            _layer_flops(8 * 64 * (128 + 64) + 128 * 37, N, 25)
            + 18 * N * sum(i * o * pixels for i, o, pixels, _ in _CONVOLUTIONS),
            ("forward",),
        )
        for N in (1, 32)
    ),
    *(
        Subject(
            f"torch forecaster, {N}",
            "torch",
            partial(_torch_model, N),
            _layer_flops(4 * 64 * (16 + 64 + 64 + 64), N, 100),
            ("forward",),
        )
        for N in (1, 32)
    ),
)
"""Every case that is no single LSTM: the only list of them."""


def installed() -> tuple[Subject, ...]:
    """Return the subjects whose framework is installed."""
    return tuple(s for s in SUBJECTS if find_spec(s.needs) is not None)
