"""torch's habits that the base class of the layers knows besides the state dict."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn
import pytest

from lstm_bridge.torch import nn

torch = pytest.importorskip("torch", reason="the live module is the source")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2)
        self.add_module("fc", nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
        self.register_buffer("scale", mx.ones((2,)))
        self.register_buffer("hidden", mx.ones((2,)), persistent=False)

    def forward(self, x: mx.array) -> mx.array:
        return self.fc(self.lstm(x)[0]) * self.scale * self.hidden


class Live(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, 2)
        self.add_module("fc", torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU()))
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("hidden", torch.ones(2), persistent=False)


def names(module: Any, **options: Any) -> list[str]:
    return [name for name, _ in module.named_parameters(**options)]


@pytest.mark.parametrize("options", [{}, {"prefix": "net"}, {"recurse": False}])
def test_named_parameters_are_torchs(options: dict[str, Any]) -> None:
    assert names(Net(), **options) == names(Live(), **options)


def test_the_state_dict_has_the_buffers_that_persist() -> None:
    assert sorted(Net().state_dict()) == sorted(Live().state_dict())


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("half", mx.float16), ("bfloat16", mx.bfloat16), ("float", mx.float32)],
)
def test_casts_are_torchs(method: str, dtype: mx.Dtype) -> None:
    net = Net()
    assert getattr(net, method)() is net
    assert {array.dtype for _, array in net.named_parameters()} == {dtype}


def test_double_computes_on_the_cpu() -> None:
    with mx.stream(mx.cpu):
        if mx.default_device().type == mx.DeviceType.gpu:
            pytest.skip("MLX computes float64 on the CPU only")
        assert Net().double().fc[0].weight.dtype == mx.float64


def test_requires_grad_freezes_and_never_trains_a_buffer() -> None:
    net = Net()
    assert net.requires_grad_(False) is net
    assert names(net) == []
    assert names(net.requires_grad_()) == names(Live())
    assert names(net.fc.requires_grad_(False)) == []
    assert "scale" not in names(net)


def test_get_submodule_is_torchs() -> None:
    net = Net()
    assert net.get_submodule("fc.0") is net.fc[0]
    assert net.get_submodule("") is net
    for path in ("fc.7", "lstm.weight_ih_l0", "nothing"):
        with pytest.raises(AttributeError, match=path):
            net.get_submodule(path)
        with pytest.raises(AttributeError):
            Live().get_submodule(path)


def test_what_has_no_effect_changes_nothing() -> None:
    net = Net()
    before = net.state_dict()
    net.zero_grad()
    assert net.cpu().cuda(0) is net
    assert all(mx.array_equal(before[n], v).item() for n, v in net.state_dict().items())


def test_a_training_loop_in_torchs_manner_trains() -> None:
    import mlx.optimizers as optim

    net, x = Net(), mx.random.normal((5, 2, 3))
    step = mlx.nn.value_and_grad(net, lambda x: mx.mean((net(x) - 1) ** 2))
    optimizer = optim.Adam(1e-2)
    losses = []
    for _ in range(5):
        net.zero_grad()
        loss, gradients = step(x)
        optimizer.update(net, gradients)
        mx.eval(net.parameters(), optimizer.state)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert mx.array_equal(net.scale, mx.ones((2,))).item()
