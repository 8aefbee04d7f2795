"""Random torch modules of the supported layers and functions, against live torch."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="ports start from live torch modules")
nn, F = torch.nn, torch.nn.functional

N, L = 3, 6
SIZES = st.integers(2, 6)
EPS = 0.05
"""Of normalisations over few features, which a smaller one lets amplify rounding without bound."""


class Recurrent(nn.Module):
    """A recurrent layer's outputs, its states left aside."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)[0]


class ChannelsFirst(nn.Module):
    """A layer over ``[N, C, L]`` between layers over ``[N, L, C]``."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


class Residual(nn.Module):
    """A block of random functions around a layer."""

    def __init__(self, width: int, steps: list[str]) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.gain = nn.Parameter(torch.ones(width))
        self.steps = steps

    def forward(self, x: Any) -> Any:
        y = self.fc(x)
        for step in self.steps:
            y = FUNCTIONS[step](y, x)
        return x + y * self.gain


def looped(y: Any, x: Any) -> Any:
    """A state carried over the length."""
    state, found = torch.zeros_like(y[:, 0]), []
    for t in range(x.size(1)):
        state = torch.tanh(y[:, t] + 0.5 * state)
        found.append(state)
    return torch.stack(found, dim=1)


def changed(y: Any) -> Any:
    """Parts changed in place."""
    y[:, 0].mul_(2)
    y[:, 1:] += 0.5
    y[..., -1] = 0.25
    return y


FUNCTIONS: dict[str, Any] = {
    "gate": lambda y, x: torch.sigmoid(y) * x,
    "centre": lambda y, x: y - y.mean(dim=1, keepdim=True),
    "attend": lambda y, x: torch.bmm(F.softmax(y @ x.transpose(1, 2) / 3, dim=-1), x),
    "einsum": lambda y, x: torch.einsum("nld,nmd->nlm", y, x).tanh() @ y,
    "where": lambda y, x: torch.where(x > 0, y, 0.5 * y),
    "mask": lambda y, x: y.masked_fill(x < -1, 0.25),
    "halves": lambda y, x: torch.cat([y[:, L // 2 :], y[:, : L // 2]], dim=1),
    "chunks": lambda y, x: (
        torch.stack(y.chunk(2, dim=1), 0).flatten(0, 1)[: x.size(0)].repeat(1, 2, 1)
    ),
    "last": lambda y, x: y + x[:, -1:, :].expand_as(y),
    "largest": lambda y, x: y - y.max(dim=1, keepdim=True)[0],
    "gather": lambda y, x: y.gather(1, (x > 0).long()),
    "spread": lambda y, x: (y - y.mean(-1, keepdim=True)) / (y.std(-1, keepdim=True) + 0.5),
    "norm": lambda y, x: F.normalize(y, dim=1) + F.layer_norm(x, x.shape[-1:], eps=EPS),
    "shift": lambda y, x: F.pad(y[:, 1:], (0, 0, 1, 0)) + x.roll(1, 1),
    "clip": lambda y, x: y.clamp(-1, 2).abs().add(0.1).log() * x,
}
FUNCTIONS |= {
    "loop": lambda y, x: looped(y, x),
    "steps": lambda y, x: torch.stack([torch.tanh(step) for step in y.unbind(1)], dim=1),
    "rank": lambda y, x: y * 2 if y.dim() == 3 else y,
    "in place": lambda y, x: changed(y + 0),
    "starred": lambda y, x: y.reshape(*y.shape[:-1], 1, -1).squeeze(-2),
    "running": lambda y, x: torch.tanh(y).cumsum(1) / y.size(1) - x.flip(1),
    "resized": lambda y, x: F.interpolate(y.transpose(1, 2), size=x.size(1)).transpose(1, 2),
    "scattered": lambda y, x: torch.zeros_like(y).scatter_add(1, (x > 0).long(), y),
    "frozen": lambda y, x: y + torch.tanh(x).detach(),
}
ELEMENTWISE = ("relu", "elu", "gelu", "silu", "tanh", "leaky_relu", "softplus", "mish")
FUNCTIONS |= {name: partial(lambda f, y, x: f(y), getattr(F, name)) for name in ELEMENTWISE}

ACTIVATIONS = [
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus, nn.Softsign, nn.LogSigmoid,
    nn.Tanhshrink, nn.Softshrink, nn.Hardshrink, nn.PReLU, nn.RReLU,
]  # fmt: skip


@st.composite
def stacks(draw: Any) -> Any:
    """A Sequential of up to five layers over ``[N, L, width]``."""
    width = first = draw(SIZES)
    layers: list[Any] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["recurrent", "conv", "norm", "linear", "activation", "block"]))
        layer, width = MAKERS[kind](draw, width)
        layers.append(layer)
    return nn.Sequential(*layers), first


def recurrent(draw: Any, width: int) -> tuple[Any, int]:
    cls = draw(st.sampled_from([nn.LSTM, nn.GRU, nn.RNN]))
    H, both = draw(SIZES), draw(st.booleans())
    more = {"proj_size": H - 1} if cls is nn.LSTM and H > 2 and draw(st.booleans()) else {}
    more |= {"num_layers": draw(st.integers(1, 2)), "bias": draw(st.booleans())}
    layer = cls(width, H, batch_first=True, bidirectional=both, **more)
    return Recurrent(layer), (more.get("proj_size") or H) * (2 if both else 1)


def conv(draw: Any, width: int) -> tuple[Any, int]:
    groups = 2 if width % 2 == 0 and draw(st.booleans()) else 1
    out = groups * draw(st.integers(1, 3))
    if draw(st.booleans()):
        layer = nn.Conv1d(
            width,
            out,
            draw(st.sampled_from([1, 3])),
            padding="same",
            dilation=draw(st.integers(1, 2)),
            groups=groups,
            padding_mode=draw(st.sampled_from(["zeros", "replicate", "reflect", "circular"])),
        )
    else:
        layer = nn.ConvTranspose1d(width, out, 3, padding=1, groups=groups)
    return ChannelsFirst(layer), out


def norm(draw: Any, width: int) -> tuple[Any, int]:
    made = [
        lambda: nn.LayerNorm(width, EPS, bias=draw(st.booleans())),
        lambda: nn.RMSNorm(width, EPS),
        lambda: ChannelsFirst(nn.BatchNorm1d(width, affine=draw(st.booleans()))),
        lambda: ChannelsFirst(nn.GroupNorm(width, width)),
        lambda: ChannelsFirst(nn.InstanceNorm1d(width, affine=True)),
        lambda: ChannelsFirst(nn.AvgPool1d(3, 1, 1, count_include_pad=draw(st.booleans()))),
        lambda: ChannelsFirst(nn.MaxPool1d(3, 1, 1)),
        lambda: ChannelsFirst(nn.AdaptiveAvgPool1d(L)),
        lambda: nn.Dropout(0.5),
    ]
    return draw(st.sampled_from(made))(), width


def linear(draw: Any, width: int) -> tuple[Any, int]:
    out = draw(SIZES)
    return nn.Linear(width, out, bias=draw(st.booleans())), out


def activation(draw: Any, width: int) -> tuple[Any, int]:
    return draw(st.sampled_from(ACTIVATIONS))(), width


def block(draw: Any, width: int) -> tuple[Any, int]:
    steps = draw(st.lists(st.sampled_from(sorted(FUNCTIONS)), min_size=1, max_size=3))
    return Residual(width, steps), width


MAKERS = {
    "recurrent": recurrent,
    "conv": conv,
    "norm": norm,
    "linear": linear,
    "activation": activation,
    "block": block,
}


@given(stack=stacks())
def test_random_modules_are_torchs(parity: Any, failures: Any, stack: Any) -> None:
    module, width = stack

    def draw(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(N, L, width, generator=generator),)

    assert failures(parity(module, draw, gradients=False)) == []


@settings(max_examples=10)
@given(stack=stacks())
def test_gradients_of_random_modules_are_torchs(parity: Any, failures: Any, stack: Any) -> None:
    module, width = stack

    def draw(seed: int) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(N, L, width, generator=generator),)

    assert failures(parity(module, draw, draws=16)) == []
