"""weight_norm, spectral_norm and Embedding(max_norm=…) in whole models, against live torch."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from torch import nn

import lstm_bridge
import lstm_bridge.torch.nn as ours
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.models.quantize import quantize
from lstm_bridge.models.torch.reparametrized import with_plain_weights
from lstm_bridge.torch.nn import functional

Norm = Callable[..., Any]


def old_weight(module: nn.Module, name: str, **options: Any) -> None:
    with warnings.catch_warnings():  # deprecated; it is what most people have
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(module, name, **options)


WEIGHT_NORMS: dict[str, Norm] = {
    "hook": old_weight, "parametrization": nn.utils.parametrizations.weight_norm,
}  # fmt: skip
NORMS: dict[str, Norm] = {
    **WEIGHT_NORMS, "spectral hook": nn.utils.spectral_norm,
    "spectral parametrization": nn.utils.parametrizations.spectral_norm,
}  # fmt: skip


class Net(nn.Module):
    """A convolution, an LSTM and a head, some weights of which are computed."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 2)
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(10, 2))
        norm(self.conv, "weight")
        for name in ("weight_hh_l0", "weight_ih_l1_reverse"):
            norm(self.lstm, name)
        norm(self.head[1], "weight")

    def forward(self, x: Any) -> Any:
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.lstm(y)[0])


def made(norm: Norm, seed: int = 0) -> Any:
    """A network whose g are not the lengths of its v."""
    torch.manual_seed(seed)
    module = Net(norm)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    module.train()(torch.randn(2, 6, 3))  # spectral norms estimate in training
    return module.eval()


def x_of(seed: int = 3) -> torch.Tensor:
    return torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(seed))


def truth_of(module: Any, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """torch's answers in float32, and in float64 with the same numbers."""
    with torch.no_grad():
        single = module(x).numpy()
        wide = with_plain_weights(module)[0]
        state = {k: exact_weight(module, k, v) for k, v in wide.state_dict().items()}
        for name, parameter in wide.double().named_parameters():
            parameter.copy_(state[name])
        return single, wide(x.double()).numpy()


def exact_weight(module: Any, name: str, plain: torch.Tensor) -> torch.Tensor:
    """A weight in float64; a weight norm's from its g and v, independent of what is tested."""
    held = dict(module.state_dict())
    path, _, last = name.rpartition(".")
    new = f"{path}.parametrizations.{last}.original"
    for g, v in ((f"{name}_g", f"{name}_v"), (f"{new}0", f"{new}1")):
        if g in held:
            wide = held[v].double()
            axes = [k for k in range(wide.ndim) if held[g].shape[k] == 1]
            return held[g].double() * wide / wide.square().sum(axes, keepdim=True).sqrt()
    return plain.double()


@pytest.mark.parametrize("norm", NORMS)
def test_computed_weights_become_plain_ones(norm: str, tmp_path: Path) -> None:
    module, x = made(NORMS[norm]), x_of()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model = lstm_bridge.port(module)
    got = np.array(model(mx.array(x.numpy())))
    single, truth = truth_of(module, x)
    assert judge(got, single, truth).passed
    by = "spectral_norm" if "spectral" in norm else "weight_norm"
    assert model.folded == dict.fromkeys(
        ("conv.weight", "lstm.weight_hh_l0", "lstm.weight_ih_l1_reverse", "head.1.weight"), by
    )
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    lstm_bridge.save(model, tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    np.testing.assert_array_equal(np.array(again(mx.array(x.numpy()))), got)
    assert again.folded == model.folded


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_g_left_out_is_caught(norm: str) -> None:
    """The negative control."""
    module, x = made(WEIGHT_NORMS[norm]), x_of()
    single, truth = truth_of(module, x)
    other = copy.deepcopy(with_plain_weights(module)[0])
    with torch.no_grad():
        name = "weight_g" if norm == "hook" else "parametrizations.weight.original0"
        g = module.state_dict()[f"conv.{name}"]
        other.conv.weight.div_(g)
        assert not judge(other(x).numpy(), single, truth).passed


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_a_recorded_model_multiplies_its_weights_out(norm: str, tmp_path: Path) -> None:
    module, x = made(WEIGHT_NORMS[norm]), x_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, x_of(1)).save(tmp_path / "m.pt")
    model = lstm_bridge.port(tmp_path / "m.pt")
    single, truth = truth_of(module, x)
    assert judge(np.array(model(mx.array(x.numpy()))), single, truth).passed
    assert model.lstm.weight_hh_l0.shape == (20, 5)
    names = {name for name, _ in tree_flatten(model.parameters())}
    assert not any(n.endswith(("_g", "_v")) or "original" in n for n in names)
    assert names == {n for n, _ in tree_flatten(lstm_bridge.port(module).parameters())}
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    same = np.array(again(mx.array(x.numpy()))), np.array(model(mx.array(x.numpy())))
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_weights_of_another_fine_tune_load(norm: str) -> None:
    model, other, x = (
        lstm_bridge.port(made(WEIGHT_NORMS[norm])),
        made(WEIGHT_NORMS[norm], 5),
        x_of(),
    )
    model.load_weights({k: mx.array(v.numpy()) for k, v in other.state_dict().items()})
    single, truth = truth_of(other, x)
    assert judge(np.array(model(mx.array(x.numpy()))), single, truth).passed
    half = {k: mx.array(v.numpy()) for k, v in other.state_dict().items()}
    half.pop(next(k for k in half if k.endswith(("_g", "original0"))))
    with pytest.raises(UsageError, match="missing"):
        model.load_weights(half)


def test_what_trained_goes_back_where_the_norm_has_been_removed(tmp_path: Path) -> None:
    module, x = made(old_weight), x_of()
    model = lstm_bridge.port(module)
    model.save_torch(tmp_path / "m.pt")
    for layer, name in (
        (module.conv, "weight"), (module.head[1], "weight"), (module.lstm, "weight_hh_l0"),
        (module.lstm, "weight_ih_l1_reverse"),
    ):  # fmt: skip
        nn.utils.remove_weight_norm(layer, name)
    module.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    with torch.no_grad():
        np.testing.assert_allclose(
            np.array(model(mx.array(x.numpy()))), module(x).numpy(), rtol=2e-5, atol=2e-6
        )


def test_one_number_for_a_whole_weight_and_frozen_ones() -> None:
    torch.manual_seed(2)
    layer = nn.Linear(3, 4)
    old_weight(layer, "weight", dim=None)
    module = nn.Sequential(layer, nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)))
    for parameter in module[1].parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        layer.weight_g.mul_(1.5)
    model, x = lstm_bridge.port(module), x_of()
    with torch.no_grad():
        wanted = module(x).numpy()
    assert np.abs(np.array(model(mx.array(x.numpy()))) - wanted).max() < 1e-6
    trained = {name for name, _ in tree_flatten(model.trainable_parameters())}
    assert trained == {"layers.0.weight", "layers.0.bias"} or trained == {"0.weight", "0.bias"}


class Holding(nn.Module):
    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer, self.held = layer, _Uncopied()

    def forward(self, x: Any) -> Any:
        return self.layer(x)


class _Uncopied:
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("cannot be copied")


def test_what_cannot_be_copied_is_refused() -> None:
    module = Holding(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    with pytest.raises(UnsupportedError, match="weight_norm out of it, got TypeError: cannot be"):
        lstm_bridge.port(module)


# --- Embedding(max_norm=…) ----------------------------------------------------------------------

TOKENS = torch.tensor([[1, 2, 2, 0], [5, 4, 1, 1]])
NORM_TYPES = [2.0, 1.0, 3.0, float("inf")]


def tables(norm_type: float, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(1)
    source = nn.Embedding(7, 4, max_norm=1.3, norm_type=norm_type, **options)
    port = ours.Embedding(7, 4, max_norm=1.3, norm_type=norm_type, **options)
    port.load_state_dict(source.state_dict())
    return source, port


def short(table: np.ndarray, norm_type: float) -> np.ndarray:
    sizes = np.linalg.norm(table, norm_type, axis=1, keepdims=True)
    return np.where(sizes > 1.3, table * (1.3 / (sizes + 1e-7)), table)


@pytest.mark.parametrize("norm_type", NORM_TYPES)
@pytest.mark.parametrize("padding_idx", [None, 2])
def test_rows_are_shortened_as_torch_does(norm_type: float, padding_idx: int | None) -> None:
    source, port = tables(norm_type, padding_idx=padding_idx)
    assert repr(port) == repr(source)
    table = source.weight.detach().numpy().copy()
    ids = TOKENS.numpy()
    truth = short(table.astype(np.float64), norm_type)[ids]
    tokens = mx.array(ids)
    evaluated = np.array(port.eval()(tokens))
    np.testing.assert_array_equal(np.array(port.weight), table)
    slope = mx.grad(lambda p: (port.update(p)(tokens) ** 2).sum())
    grad = np.array(slope(port.train().parameters())["weight"])
    got = source(TOKENS)
    (got**2).sum().backward()
    single = got.detach().numpy()
    assert judge(evaluated, single, truth).passed
    assert not judge(table[ids], single, truth).passed
    wide = np.zeros_like(truth, shape=(7, 4))
    np.add.at(wide, ids, 2 * truth)
    if padding_idx is not None:
        wide[padding_idx] = 0
    assert judge(grad, source.weight.grad.numpy(), wide).passed
    left = np.where(np.isin(np.arange(7), ids)[:, None], short(np.float64(table), norm_type), table)
    assert judge(np.array(port.weight), source.weight.detach().numpy(), left).passed


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_shortened_rows_are_torchs(mode: str) -> None:
    torch.manual_seed(1)
    source = nn.EmbeddingBag(7, 4, mode=mode, max_norm=1.3)
    port = ours.EmbeddingBag(7, 4, mode=mode, max_norm=1.3)
    port.load_state_dict(source.state_dict())
    assert repr(port) == repr(source)
    rows = short(source.weight.detach().double().numpy(), 2)[TOKENS.numpy()]
    truth = {"sum": rows.sum(1), "mean": rows.mean(1), "max": rows.max(1)}[mode]
    got = np.array(port(mx.array(TOKENS.numpy())))
    with torch.no_grad():
        assert judge(got, source(TOKENS).numpy(), truth).passed


def test_training_leaves_the_table_as_torch_does() -> None:
    source, port = tables(2.0)
    slow = torch.optim.SGD(source.parameters(), 0.3)
    import mlx.nn
    import mlx.optimizers

    optimizer = mlx.optimizers.SGD(0.3)
    step = mlx.nn.value_and_grad(port.train(), lambda ids: (port(ids) ** 2).sum())
    for _ in range(3):
        slow.zero_grad()
        (source(TOKENS) ** 2).sum().backward()
        slow.step()
        optimizer.update(port, step(mx.array(TOKENS.numpy()))[1])
    np.testing.assert_allclose(np.array(port.weight), source.weight.detach(), rtol=1e-5, atol=1e-6)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, max_norm=1.3)
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, tokens: Any) -> Any:
        return self.lstm(self.table(tokens))[0]


def test_a_model_with_max_norm_ports_and_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Words().eval()
    model = lstm_bridge.port(module)
    got = np.array(model(mx.array(TOKENS.numpy())))
    with torch.no_grad():
        wanted = module(TOKENS).numpy()
        wide = copy.deepcopy(module).double()
        truth = wide(TOKENS).numpy()
    assert judge(got, wanted, truth).passed
    lstm_bridge.save(model, tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    np.testing.assert_array_equal(np.array(again(mx.array(TOKENS.numpy()))), got)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, max_norm=1.3)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, tokens: Any) -> Any:
        return self.out(self.table(tokens))


@pytest.mark.parametrize("cls", [Words, Tied])
def test_a_recorded_table_changes_for_all_that_read_it(cls: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = cls().eval()
    fresh = copy.deepcopy(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, TOKENS[:, :2], check_trace=False).save(tmp_path / "m.pt")
    saved = {k: v.clone() for k, v in module.state_dict().items()}
    fresh.load_state_dict(saved)
    model = lstm_bridge.port(tmp_path / "m.pt")
    got = np.array(model(mx.array(TOKENS.numpy())))
    wide = copy.deepcopy(fresh).double()
    with torch.no_grad():
        assert judge(got, fresh(TOKENS).numpy(), wide(TOKENS).numpy()).passed


def test_what_else_reads_such_a_table_is_refused_live() -> None:
    with pytest.raises(UnsupportedError, match="max_norm in a table that nothing else reads"):
        lstm_bridge.port(Tied().eval())


def test_such_a_table_is_not_quantized() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(7, 64, max_norm=1.3), nn.Linear(64, 64))
    done = quantize(lstm_bridge.port(module.eval()), 8)
    assert "max_norm None" in next(iter(done.kept.values()))


def test_the_function_shortens_too_and_half_precision_as_well() -> None:
    table = np.random.default_rng(0).normal(0, 1, (7, 4)).astype(np.float32)
    made = functional.embedding(mx.array(TOKENS.numpy()), mx.array(table), max_norm=1.3)
    truth = short(np.float64(table), 2)[TOKENS.numpy()]
    source = nn.functional.embedding(TOKENS, torch.from_numpy(table.copy()), max_norm=1.3).numpy()
    assert judge(np.array(made), source, truth).passed
    half = functional.embedding(mx.array([1]), mx.array(table).astype(mx.float16), max_norm=1.3)
    assert half.dtype == mx.float16
    none = functional.embedding(mx.zeros((0,), mx.int32), mx.array(table), max_norm=1.3)
    assert none.shape == (0, 4)
