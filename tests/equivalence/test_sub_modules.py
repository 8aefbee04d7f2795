"""Whole models: which sub-module diverges first, and at which time step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

import lstm_bridge.keras.layers
import lstm_bridge.torch.nn
from lstm_bridge import InputSpec, compare
from lstm_bridge.equivalence.parties.keras import variables
from lstm_bridge.errors import UsageError

torch = pytest.importorskip("torch", reason="compared with live torch models")
keras = pytest.importorskip("keras", reason="compared with live Keras models")

N, L, D, H = 3, 6, 4, 5


class Source(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(D, 7)
        self.encoder = torch.nn.LSTM(7, H, batch_first=True)
        self.decoder = torch.nn.LSTM(H, H, batch_first=True)
        self.head = torch.nn.Linear(H, 2)

    def forward(self, x: Any) -> Any:
        y, state = self.encoder(torch.tanh(self.embed(x)))
        return self.head(self.decoder(y, state)[0])


class Port(nn.Module):
    """A hand-written port, in the names of its source."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(D, 7)
        self.encoder = lstm_bridge.torch.nn.LSTM(7, H, batch_first=True)
        self.decoder = lstm_bridge.torch.nn.LSTM(H, H, batch_first=True)
        self.head = nn.Linear(H, 2)

    def __call__(self, x: mx.array) -> mx.array:
        y, state = self.encoder(mx.tanh(self.embed(x)))
        return self.head(self.decoder(y, state)[0])


@pytest.fixture
def models() -> tuple[Source, Port]:
    torch.manual_seed(5)
    source, port = Source(), Port()
    with torch.no_grad():
        for p in source.parameters():
            p.copy_(torch.randn_like(p) * 0.6 + 0.1)
    port.load_weights([(k, mx.array(v.numpy())) for k, v in source.state_dict().items()])
    return source, port


X = InputSpec((N, L, D), -2, 2)


def test_every_sub_module_is_compared_as_it_runs(models: tuple[Source, Port]) -> None:
    report = compare(*models, X, gradients=True)
    assert report.passed
    assert report.first_divergence is None
    (layer,) = report.layers
    assert [part.path for part in layer.parts] == ["embed", "encoder", "decoder", "head"]
    assert all(a.verdict.passed for part in layer.parts for a in part.arrays)
    assert len(layer.parts[1].arrays) == 3
    assert len(layer.parts[1].arrays[0].over_time) == L
    assert layer.parts[1].arrays[1].over_time == ()
    names = {a.name for a in layer.arrays}
    assert {"output", "grad x", "grad encoder.weight_hh_l0", "grad head.bias"} <= names


def test_both_models_are_what_they_were_after(models: tuple[Source, Port]) -> None:
    source, port = models
    compare(source, port, X)
    assert type(source.encoder) is torch.nn.LSTM
    assert type(port.encoder) is lstm_bridge.torch.nn.LSTM
    assert type(port.head) is nn.Linear


def test_the_first_wrong_layer_is_diagnosed(models: tuple[Source, Port]) -> None:
    source, port = models
    port.decoder.update({n: mx.roll(v, H, 0) for n, v in port.decoder.parameters().items()})
    assert compare(source, port, X).diagnosis.startswith("decoder: gates permuted")


@pytest.mark.parametrize("wrong", ["embed", "encoder", "decoder", "head"])
def test_the_first_wrong_layer_is_named(models: tuple[Source, Port], wrong: str) -> None:
    source, port = models
    module = getattr(port, wrong)
    module.update({n: mx.roll(v, 1, 0) for n, v in module.parameters().items()})
    report = compare(source, port, X)
    assert not report.passed
    assert report.first_divergence is not None
    assert report.first_divergence.layer == wrong
    assert report.first_divergence.step == 0


def test_the_first_wrong_step_is_named(models: tuple[Source, Port]) -> None:
    source, port = models

    class Late(lstm_bridge.torch.nn.LSTM):
        """Right for three steps: a window that is cut too short."""

        def __call__(self, x: mx.array, hx: Any = None) -> Any:
            y, state = super().__call__(x, hx)
            return mx.concatenate([y[:, :3], y[:, 2:-1]], axis=1), state

    object.__setattr__(port.decoder, "__class__", Late)
    report = compare(source, port, X)
    assert report.first_divergence is not None
    assert tuple(report.first_divergence) == ("decoder", "output[0]", 3)
    assert "decoder output[0] at step 3" in str(report.first_divergence)


def test_a_cell_called_step_by_step_is_followed_in_time() -> None:
    class Loop(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.cell = torch.nn.LSTMCell(D, H)

        def forward(self, x: Any) -> Any:
            h = c = torch.zeros(x.shape[0], H, dtype=x.dtype)
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h, c))
            return h

    class Ported(nn.Module):
        def __init__(self, reset_at: int | None) -> None:
            super().__init__()
            self.cell = lstm_bridge.torch.nn.LSTMCell(D, H)
            self.reset_at = reset_at

        def __call__(self, x: mx.array) -> mx.array:
            h = c = mx.zeros((x.shape[0], H))
            for t in range(x.shape[1]):
                h, c = self.cell(x[:, t], (h, c))
                if t == self.reset_at:
                    c = mx.zeros_like(c)
            return h

    torch.manual_seed(2)
    source = Loop()
    for reset_at, step in ((None, None), (1, 2), (3, 4)):
        port = Ported(reset_at)
        port.load_weights([(k, mx.array(v.numpy())) for k, v in source.state_dict().items()])
        report = compare(source, port, X)
        assert report.passed == (reset_at is None)
        (part,) = report.layers[0].parts
        assert part.calls == L
        assert len(part.arrays[0].over_time) == L
        found = report.first_divergence
        assert (found and found.step) == step


def test_sub_modules_that_return_other_things_are_only_noted(models: tuple[Source, Port]) -> None:
    source, port = models

    class Flat(nn.Linear):
        def __call__(self, x: mx.array) -> mx.array:
            return super().__call__(x).reshape(-1)

    class Folded(Port):
        def __call__(self, x: mx.array) -> mx.array:
            y, state = self.encoder(mx.tanh(self.embed(x).reshape(N, L, 7)))
            return self.decoder(y, state)[0] @ self.head.weight.T + self.head.bias

    object.__setattr__(port.embed, "__class__", Flat)
    object.__setattr__(port, "__class__", Folded)
    report = compare(source, port, X)
    assert report.passed
    notes = {part.path: part.note for part in report.layers[0].parts}
    assert notes["embed"].startswith("other shapes")
    assert notes["head"] == "not called in the port"


def test_a_keras_model_and_inputs_from_its_own_description() -> None:
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((None, D)),
            keras.layers.LSTM(H, return_sequences=True, name="lower"),
            keras.layers.Bidirectional(keras.layers.LSTM(H), name="upper"),
            keras.layers.Dense(2, name="head"),
        ]
    )
    front = lstm_bridge.keras.layers

    class Ported(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower = front.LSTM(H, return_sequences=True)
            self.lower.build((None, None, D))
            self.upper = front.Bidirectional(front.LSTM(H))
            self.upper.build((None, None, H))
            self.head = nn.Linear(2 * H, 2)

        def __call__(self, x: mx.array) -> mx.array:
            return self.head(self.upper(self.lower(x)))

    port = Ported()
    arrays = {}
    for name, v in variables(model).items():
        array = mx.array(v.value.detach().numpy())
        dense = name == "head.kernel"
        arrays["head.weight" if dense else name] = array.T if dense else array
    port.load_weights(list(arrays.items()))
    report = compare(model, port)
    assert report.passed, report.to_json()
    assert report.layers[0].oracle.endswith("of the whole")
    found = [part.path for part in report.layers[0].parts if part.arrays]
    assert found[0] == "lower"
    assert {"lower", "upper", "head"} <= set(found)
    port.upper.update(mx_rolled(port.upper.parameters()))
    report = compare(model, port)
    assert report.first_divergence is not None
    assert report.first_divergence.layer.startswith("upper")


def mx_rolled(tree: Any) -> Any:
    return tree_map(lambda a: mx.roll(a, 1, -1), tree)


def test_a_torch_model_needs_inputs(models: tuple[Source, Port]) -> None:
    with pytest.raises(UsageError, match="pass inputs"):
        compare(*models)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_both_sides(models: tuple[Source, Port], dtype: str) -> None:
    source, port = models
    report = compare(source, port, X, dtype=dtype)
    assert report.passed, report.to_json()
    assert report.max_abs > 1e-5  # really in half precision
    assert next(source.parameters()).dtype == torch.float32
    assert port.head.weight.dtype == mx.float32
    port.decoder.weight_hh_l0 = mx.roll(port.decoder.weight_hh_l0, H, 0)
    wrong = compare(source, port, X, dtype=dtype)
    assert not wrong.passed
    assert wrong.first_divergence is not None
    assert wrong.first_divergence.layer == "decoder"


def test_a_mixed_port_is_judged_by_its_own_dtype(models: tuple[Source, Port]) -> None:
    source, port = models
    port.set_dtype(mx.float16)
    report = compare(source, port, X)
    assert report.layers[0].arrays[0].verdict.floor > 1e-4
    assert np.isfinite(report.ratio)


def test_a_model_ported_as_a_whole_and_its_folder(
    models: tuple[Source, Port], tmp_path: Path
) -> None:
    source, _ = models
    ported = lstm_bridge.port(source, torch.zeros(N, L, D))
    report = compare(source, ported, X, gradients=True)
    assert report.passed, report.layers[0].reason
    assert [part.path for part in report.layers[0].parts if part.arrays] == [
        *("embed", "encoder", "decoder", "head")
    ]
    lstm_bridge.save(ported, tmp_path / "model")
    assert compare(source, tmp_path / "model", X).passed
    with torch.no_grad():
        source.head.weight.mul_(1.01)
    report = compare(source, tmp_path / "model", X)
    assert report.first_divergence is not None
    assert report.first_divergence.layer == "head"
