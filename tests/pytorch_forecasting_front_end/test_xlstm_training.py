"""A hundred steps of SGD here and in torch, from the same weights: the same loss curve.

SGD with momentum, because MLX's Adam computes 1 - 0.999^t in float32, which costs its first steps
six digits: that would be judged here in place of the layers.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest

from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.pytorch_forecasting import layers

torch = pytest.importorskip("torch", reason="parity tests need the live framework")
upstream = pytest.importorskip(
    "pytorch_forecasting.layers", reason="parity tests need the live framework"
)

STEPS, RATE, MOMENTUM = 100, 0.01, 0.9
L, N, D, H = 6, 16, 2, 8


def data(seed: int) -> tuple[Any, Any]:
    """Return noisy sines and the value that follows each, ``[L, N, D]`` and ``[N, 1]``."""
    rng = np.random.default_rng(seed)
    t = np.arange(L + 1)[:, None, None] * 0.6 + rng.uniform(0, 6, (1, N, D))
    waves = np.sin(t) + rng.normal(0, 0.05, t.shape)
    return waves[:L].astype(np.float32), waves[L, :, :1].astype(np.float32)


def torch_curve(model: Any, x: Any, y: Any, dtype: Any) -> list[float]:
    model = model.to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
    x, y = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
    losses = []
    for _ in range(STEPS):
        # Upstream's own zeros are float32 whatever the model's dtype.
        states = model.init_hidden(N)
        states = [
            s.to(dtype) if torch.is_tensor(s) else [one.to(dtype) for one in s] for s in states
        ]
        loss = ((model(x, *states)[0] - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def mlx_curve(model: nn.Module, x: Any, y: Any, rate: float = RATE) -> list[float]:
    optimizer = mlx.optimizers.SGD(learning_rate=rate, momentum=MOMENTUM)
    x, y = mx.array(x), mx.array(y)
    step = nn.value_and_grad(model, lambda x, y: ((model(x)[0] - y) ** 2).mean())
    losses = []
    for _ in range(STEPS):
        loss, gradients = step(x, y)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


def curves(kind: str, seed: int, rate: float = RATE) -> tuple[list[float], ...]:
    """Return the loss curves of ours, of torch in float32 and of torch in float64."""
    torch.manual_seed(seed)
    options = (D, H, 2, 1)
    source = getattr(upstream, f"{kind}LSTMNetwork")(*options)
    with torch.no_grad():
        for name, p in source.named_parameters():
            if "ln_" in name:  # the default ones leave an mLSTM with rounding noise to learn from
                p.add_(0.3 * torch.randn_like(p))
    ours = getattr(layers, f"{kind}LSTMNetwork")(*options)
    ours.load_state_dict(source.state_dict())
    truth = getattr(upstream, f"{kind}LSTMNetwork")(*options)
    truth.load_state_dict(source.state_dict())
    x, y = data(seed)
    return (
        mlx_curve(ours, x, y, rate),
        torch_curve(source, x, y, torch.float32),
        torch_curve(truth, x, y, torch.float64),
    )


@pytest.mark.parametrize("kind", ["m", "s"])
def test_the_loss_curve_is_torchs(settled: Any, kind: str) -> None:
    def verdict(seed: int) -> Verdict:
        ours, source, truth = curves(kind, seed)
        assert truth[-1] < 0.3 * truth[0]
        return judge(ours, source, truth)

    assert settled(verdict, 0) == ""


def test_another_learning_rate_is_caught(settled: Any) -> None:
    assert settled(lambda seed: judge(*curves("m", seed, rate=RATE * 1.01)), 0) != ""
