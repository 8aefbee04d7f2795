"""Names, paths, signatures, weights' names, dtypes and errors of the xLSTM layers."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from lstm_bridge.errors import ArgumentTypeError, BridgeError, CallError, ShapeError, UsageError
from lstm_bridge.pytorch_forecasting import layers
from lstm_bridge.pytorch_forecasting.models.xlstm import _arguments, xLSTMTime

torch = pytest.importorskip("torch", reason="names are compared with the live framework")
upstream = pytest.importorskip(
    "pytorch_forecasting.layers", reason="names are compared with the live framework"
)

RECORDED = {
    "mLSTMCell": {
        "__init__": "input_size, hidden_size, dropout=0.2, layer_norm=True",
        "forward": "x, h_prev, c_prev, n_prev",
        "init_hidden": "batch_size, device=None",
    },
    "mLSTMLayer": {
        "__init__": "input_size, hidden_size, num_layers, dropout=0.2, layer_norm=True, "
        "residual_conn=True",
        "forward": "x, h=None, c=None, n=None",
        "init_hidden": "batch_size, device=None",
    },
    "mLSTMNetwork": {
        "__init__": "input_size, hidden_size, num_layers, output_size, dropout=0.0, "
        "use_layer_norm=True, use_residual=True",
        "forward": "x, h=None, c=None, n=None",
        "init_hidden": "batch_size, device=None",
    },
    "sLSTMCell": {
        "__init__": "input_size, hidden_size, dropout=0.0, use_layer_norm=True",
        "forward": "x, h_prev, c_prev",
        "init_hidden": "batch_size, device=None",
        "normalized_exp_gate": "pre_gate",
        "reset_parameters": "",
    },
    "sLSTMLayer": {
        "__init__": "input_size, hidden_size, num_layers=1, dropout=0.0, use_layer_norm=True, "
        "use_residual=True",
        "forward": "x, h=None, c=None",
        "init_hidden": "batch_size, device=None",
    },
    "sLSTMNetwork": {
        "__init__": "input_size, hidden_size, num_layers, output_size, dropout=0.0, "
        "use_layer_norm=True",
        "forward": "x, h=None, c=None",
        "init_hidden": "batch_size, device=None",
    },
    "SeriesDecomposition": {"__init__": "kernel_size", "forward": "x"},
    "xLSTMTime": {
        "__init__": "input_size, hidden_size, output_size, xlstm_type='slstm', num_layers=1, "
        "decomposition_kernel=25, input_projection_size=None, dropout=0.1, loss=SMAPE(), **kwargs",
        "forward": "x, hidden_states=None",
        "from_dataset": "dataset, **kwargs",
    },
}
"""Signatures of pytorch-forecasting 1.8.0, without annotations."""

DIFFERENT = {("xLSTMTime", "__init__"): ("loss=SMAPE()", "loss=None")}
"""What differs here, with a note on the class that says why."""

CASES = [(name, method) for name, methods in RECORDED.items() for method in methods]


def signature(method: Callable[..., Any]) -> str:
    """Render names, kinds and defaults; annotations are left out."""
    parameters = inspect.signature(method).parameters.values()
    return ", ".join(
        str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters if p.name != "self"
    )


def here(name: str) -> Any:
    return xLSTMTime if name == "xLSTMTime" else getattr(layers, name)


def there(name: str) -> Any:
    if name == "xLSTMTime":
        return importlib.import_module("pytorch_forecasting.models").xLSTMTime
    return getattr(upstream, name)


@pytest.mark.parametrize(("name", "method"), CASES)
def test_signatures(name: str, method: str) -> None:
    recorded = RECORDED[name][method]
    assert signature(getattr(there(name), method)) == recorded
    theirs, ours = DIFFERENT.get((name, method), ("", ""))
    own = getattr(here(name), "__call__" if method == "forward" else method)
    assert signature(own) == recorded.replace(theirs, ours)


def test_every_argument_of_the_base_model_has_a_note() -> None:
    base = importlib.import_module("pytorch_forecasting.models").BaseModel
    taken = set(inspect.signature(base.__init__).parameters) - {"self", "loss"}
    assert set(_arguments.NOTES) == taken | {"target", "target_lags"}


@pytest.mark.parametrize("name", RECORDED)
def test_notes_are_about_arguments_that_exist(name: str) -> None:
    known = {"from_dataset", *_arguments.NOTES} if name == "xLSTMTime" else set()
    for method in RECORDED[name]:
        own = getattr(here(name), "__call__" if method == "forward" else method)
        arguments = inspect.signature(own).parameters
        known |= set(arguments) | {f"{method}.{argument}" for argument in arguments}
    notes = here(name).ARGUMENT_NOTES
    assert set(notes) <= known
    for note in notes.values():
        assert note.startswith(("same", "no effect", "refused")), note


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("layers", name) for name in layers.__all__),
        *(("layers._recurrent", f"{k}LSTM{part}") for k in "ms" for part in ("Cell", "Layer")),
        *(
            (f"layers._recurrent._{k}lstm.{part}", f"{k}LSTM{part.title()}")
            for k in "ms"
            for part in ("cell", "layer", "network")
        ),
        ("layers._decomposition", "SeriesDecomposition"),
        ("models", "xLSTMTime"),
        ("models.xlstm", "xLSTMTime"),
    ],
)
def test_every_path_of_upstream_leads_here_too(path: str, name: str) -> None:
    found = getattr(importlib.import_module(f"lstm_bridge.pytorch_forecasting.{path}"), name)
    assert found is here(name)
    original = getattr(importlib.import_module(f"pytorch_forecasting.{path}"), name)
    assert original.__name__ == found.__name__


def test_the_snippet_runs_with_only_the_prefix_changed() -> None:
    from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.cell import mLSTMCell

    x = mx.random.normal((16, 32))
    cell = mLSTMCell(32, 64, dropout=0.1, layer_norm=True)
    h, c, n = cell.init_hidden(16)
    h, c, n = cell(x, h, c, n)
    assert h.shape == c.shape == n.shape == (16, 64)
    assert mx.abs(n).sum().item() > 0


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mLSTMCell": ("mLSTMCell", {"input_size": 3, "hidden_size": 5}),
    "mLSTMCell, no norm": (
        "mLSTMCell",
        {"input_size": 3, "hidden_size": 5, "layer_norm": False},
    ),
    "mLSTMLayer": ("mLSTMLayer", {"input_size": 3, "hidden_size": 5, "num_layers": 2}),
    "mLSTMNetwork": (
        "mLSTMNetwork",
        {"input_size": 3, "hidden_size": 5, "num_layers": 2, "output_size": 4},
    ),
    "sLSTMCell": ("sLSTMCell", {"input_size": 3, "hidden_size": 5}),
    "sLSTMLayer": ("sLSTMLayer", {"input_size": 3, "hidden_size": 5, "num_layers": 2}),
    "sLSTMLayer, bare": (
        "sLSTMLayer",
        {"input_size": 3, "hidden_size": 5, "use_layer_norm": False, "use_residual": False},
    ),
    "sLSTMNetwork": (
        "sLSTMNetwork",
        {"input_size": 3, "hidden_size": 5, "num_layers": 1, "output_size": 4},
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_weights_carry_upstreams_names_in_upstreams_order(case: str) -> None:
    name, options = MODELS[case]
    source, ours = there(name)(**options), here(name)(**options)
    theirs = {key: tuple(tensor.shape) for key, tensor in source.state_dict().items()}
    assert {key: array.shape for key, array in ours.state_dict().items()} == theirs
    assert list(ours.state_dict()) == list(theirs)
    ours.load_weights([(key, mx.array(t.numpy())) for key, t in source.state_dict().items()])
    assert ours.load_state_dict(source.state_dict()) == ([], [])
    for key, tensor in source.state_dict().items():
        assert np.array_equal(np.array(ours.state_dict()[key]), tensor.numpy())


def test_load_state_dict_reports_names_and_changes_nothing_on_error() -> None:
    cell = layers.mLSTMCell(3, 5)
    before = {name: np.array(array) for name, array in cell.state_dict().items()}
    wrong = {name: array + 1 for name, array in before.items() if name != "ln_q.bias"}
    wrong["extra"] = np.zeros(2, np.float32)
    with pytest.raises(CallError, match=r'Missing key.*"ln_q.bias".*Unexpected key.*"extra"'):
        cell.load_state_dict(wrong)
    with pytest.raises(RuntimeError, match=r"size mismatch for Wk.bias.*\[1\].*\[5\]"):
        cell.load_state_dict({"Wk.bias": np.zeros(1)}, strict=False)
    assert all(np.array_equal(before[name], a) for name, a in cell.state_dict().items())
    report = cell.load_state_dict(wrong, strict=False)
    assert report.missing_keys == ["ln_q.bias"]
    assert report.unexpected_keys == ["extra"]
    assert np.array_equal(np.array(cell.Wk.bias), wrong["Wk.bias"])


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("case", MODELS)
def test_initial_states_are_zeros_of_the_weights_dtype(case: str, dtype: mx.Dtype) -> None:
    name, options = MODELS[case]
    model = here(name)(**options)
    model.set_dtype(dtype)
    states = [array for _, array in tree_flatten(model.init_hidden(7, device="cuda"))]
    theirs = [np.array(t) for _, t in tree_flatten(there(name)(**options).init_hidden(7))]
    assert [s.shape for s in states] == [t.shape for t in theirs]
    assert all(s.dtype == dtype and not s.any().item() for s in states)


def test_default_weights_are_drawn_like_upstreams() -> None:
    for name, bound in (("mLSTMCell", 32**-0.5), ("sLSTMCell", 64**-0.5)):
        source, ours = there(name)(32, 64).state_dict(), here(name)(32, 64).state_dict()
        for key, array in ours.items():
            if name == "mLSTMCell" and key.startswith("ln_"):
                assert np.array_equal(np.array(array), source[key].numpy())
            else:
                assert 0.9 * bound < np.abs(np.array(array)).max() <= bound
                assert 0.9 * bound < source[key].abs().max() <= bound


def mcell() -> Any:
    return layers.mLSTMCell(3, 5)


def zeros(*shape: int) -> mx.array:
    return mx.zeros(shape)


BAD_CALLS: dict[str, tuple[Callable[[], Any], tuple[type[BaseException], ...], str]] = {
    "mLSTMCell: x of three axes": (
        lambda: mcell()(zeros(1, 2, 3), *mcell().init_hidden(2)),
        (AssertionError, ShapeError),
        r"mLSTMCell x: expected shape \[N, 3\], got \[1, 2, 3\]",
    ),
    "mLSTMCell: wrong width": (
        lambda: mcell()(zeros(2, 4), *mcell().init_hidden(2)),
        (RuntimeError, ValueError),
        r"expected shape \[N, 3\], got \[2, 4\]",
    ),
    **{
        f"mLSTMCell: {name} of another batch": (
            lambda k=k: mcell()(zeros(2, 3), *(zeros(2 + (j == k), 5) for j in range(3))),
            (AssertionError, ShapeError),
            rf"{name}: expected shape \[2, 5\], got \[3, 5\]",
        )
        for k, name in enumerate(("h_prev", "c_prev", "n_prev"))
    },
    "mLSTMLayer: no steps": (
        lambda: layers.mLSTMLayer(3, 5, 1)(zeros(0, 2, 3)),
        (RuntimeError,),
        "with L ≥ 1",
    ),
    "mLSTMLayer: no batch axis": (
        lambda: layers.mLSTMLayer(3, 5, 1)(zeros(4, 3)),
        (ValueError,),
        r"got \[4, 3\]",
    ),
    "mLSTMLayer: too few states": (
        lambda: layers.mLSTMLayer(3, 5, 2)(zeros(4, 2, 3), *[zeros(1, 2, 5)] * 3),
        (ShapeError,),
        "expected states of 2 layers, got 1",
    ),
    "sLSTMCell: state of another width": (
        lambda: layers.sLSTMCell(3, 5)(zeros(2, 3), zeros(2, 4), zeros(2, 5)),
        (RuntimeError,),
        r"h_prev: expected .*\[2, 5\].*, got \[2, 4\]",
    ),
    "sLSTMLayer: no steps": (
        lambda: layers.sLSTMLayer(3, 5)(zeros(0, 2, 3)),
        (RuntimeError,),
        "with L ≥ 1",
    ),
    "sLSTMLayer: too many states": (
        lambda: layers.sLSTMLayer(3, 5)(zeros(4, 2, 3), [zeros(2, 5)] * 2, [zeros(2, 5)]),
        (ShapeError,),
        "expected states of 1 layers, got 2",
    ),
    "sLSTMLayer: states in a tuple": (
        lambda: layers.sLSTMLayer(3, 5)(zeros(4, 2, 3), (zeros(2, 5),), (zeros(2, 5),)),
        (TypeError, ArgumentTypeError),
        "updated in place, got tuple",
    ),
    "dropout that is no probability": (
        lambda: layers.mLSTMCell(3, 5, dropout=1.5),
        (ValueError,),
        "between 0 and 1, got 1.5",
    ),
    "no hidden units": (lambda: layers.sLSTMCell(3, 0), (UsageError,), "hidden_size"),
    "no layers": (lambda: layers.mLSTMLayer(3, 5, 0), (UsageError,), "num_layers"),
    "no array": (
        lambda: layers.mLSTMLayer(3, 5, 1)("text"),
        (UsageError,),
        "expected an mx.array",
    ),
    "decomposition of a flat series": (
        lambda: layers.SeriesDecomposition(3)(zeros(4, 5)),
        (ShapeError,),
        r"\[N, L, D\]",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_errors_name_what_was_expected_and_what_came(case: str) -> None:
    call, kinds, message = BAD_CALLS[case]
    with pytest.raises(BridgeError, match=message) as caught:
        call()
    assert isinstance(caught.value, kinds[0])
    assert all(isinstance(caught.value, kind) for kind in kinds)
    assert "\n" not in str(caught.value)


def test_numpy_and_torch_inputs_are_taken() -> None:
    layer = layers.mLSTMLayer(3, 5, 1)
    layer.eval()
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    expected = np.array(layer(mx.array(x))[0])
    assert np.array_equal(np.array(layer(x)[0]), expected)
    assert np.array_equal(np.array(layer(torch.tensor(x))[0]), expected)


def test_the_slstm_layer_updates_the_given_lists_and_returns_detached_states() -> None:
    source, ours = there("sLSTMLayer")(3, 5, 2).eval(), here("sLSTMLayer")(3, 5, 2)
    ours.load_state_dict(source.state_dict())
    ours.eval()
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)

    h, c = source.init_hidden(2)
    _, (h_out, c_out) = source(torch.tensor(x), h, c)
    assert h_out is not h
    assert all(s.requires_grad for s in h + c)
    assert not any(s.requires_grad for s in h_out + c_out)

    def through(which: int) -> Callable[[mx.array], mx.array]:
        def loss(x: mx.array) -> mx.array:
            given = ours.init_hidden(2)
            _, returned = ours(x, *given)
            total: mx.array = sum(s.sum() for states in (given, returned)[which] for s in states)
            return total

        return loss

    assert mx.grad(through(0))(mx.array(x)).any().item()
    assert not mx.grad(through(1))(mx.array(x)).any().item()

    given = ours.init_hidden(2)
    _, returned = ours(x, *given)
    for mine, out, theirs in zip(given, returned, (h, c), strict=True):
        assert mine is not out
        for a, b, t in zip(mine, out, theirs, strict=True):
            assert np.array_equal(np.array(a), np.array(b))
            np.testing.assert_allclose(np.array(a), t.detach().numpy(), atol=1e-4)


def test_one_missing_state_means_all_start_from_zero_as_upstream() -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    for name, states in (("mLSTMLayer", 3), ("sLSTMLayer", 2)):
        source, ours = there(name)(3, 5, 1).eval(), here(name)(3, 5, 1)
        ours.eval()
        given = [[np.ones((2, 5), np.float32)] for _ in range(states - 1)]
        with_some = source(torch.tensor(x), *[[torch.tensor(s[0])] for s in given])[0]
        assert torch.equal(with_some, source(torch.tensor(x))[0])
        some = ours(x, *[[mx.array(s[0])] for s in given])[0]
        assert np.array_equal(np.array(some), np.array(ours(x)[0]))


def test_modules_stay_modules_when_their_linear_layers_are_quantized() -> None:
    for layer in (layers.mLSTMLayer(64, 64, 2, layer_norm=False), layers.sLSTMLayer(64, 64, 2)):
        layer.eval()
        x = mx.random.normal((3, 2, 64))
        before = np.array(layer(x)[0])
        nn.quantize(layer, bits=8)
        after = np.array(layer(x)[0])
        assert isinstance(next(iter(layer.cells[0].leaf_modules().values())), nn.QuantizedLinear)
        assert 0 < np.abs(after - before).max() < 0.5 * np.abs(before).max()
