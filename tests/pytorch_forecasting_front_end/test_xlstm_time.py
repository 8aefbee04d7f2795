"""xLSTMTime against live pytorch-forecasting: values, gradients, statistics, arguments.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError
from lstm_bridge.pytorch_forecasting.layers import SeriesDecomposition
from lstm_bridge.pytorch_forecasting.models import xLSTMTime

torch = pytest.importorskip("torch", reason="parity tests need the live framework")
upstream_layers = pytest.importorskip(
    "pytorch_forecasting.layers", reason="parity tests need the live framework"
)

# Lightning advises every pytorch-forecasting model against saving its own loss in hparams.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"
)

STATES = {"slstm": 2, "mlstm": 3}


def case(options: dict[str, Any], N: int, L: int, seed: int) -> list[Any]:
    """Return inputs: a batch and initial states.

    The states are given, because upstream's own zeros are float32 in its float64 copy too.
    """
    rng = np.random.default_rng(seed)
    H, layers, kind = options["hidden_size"], options["num_layers"], options["xlstm_type"]
    series = rng.normal(0.3, 1, (N, L, options["input_size"])).cumsum(axis=1)
    states: list[Any] = [rng.normal(0.2, 0.8, (layers, N, H)) for _ in range(STATES[kind])]
    if kind == "slstm":
        states = [list(state) for state in states]
    return [{"encoder_cont": series.astype(np.float32)}, states]


OPTIONS = st.fixed_dictionaries(
    {
        "input_size": st.sampled_from([1, 3]),
        "hidden_size": st.sampled_from([5, 8]),
        "output_size": st.sampled_from([1, 4]),
        "xlstm_type": st.sampled_from(["slstm", "mlstm"]),
        "num_layers": st.integers(1, 2),
        "decomposition_kernel": st.sampled_from([1, 2, 5, 8, 25]),
        "dropout": st.just(0.0),
    }
)


@given(OPTIONS, st.integers(4, 6), st.integers(2, 9), st.booleans(), st.integers(0, 2**16))
def test_values_and_gradients(
    parity: Any, settled: Any, options: dict[str, Any], N: int, L: int, train: bool, seed: int
) -> None:
    def verdict(seed: int) -> Verdict:
        three = parity("xLSTMTime", options, seed)
        if train:
            three.train()
        return three.both(*case(options, N, L, seed), seed=seed)

    assert settled(verdict, seed) == ""


PLAIN: dict[str, Any] = {
    "input_size": 3,
    "hidden_size": 8,
    "output_size": 4,
    "xlstm_type": "mlstm",
    "num_layers": 2,
    "decomposition_kernel": 4,
    "dropout": 0.0,
}


@pytest.mark.parametrize(
    "mutate",
    [
        lambda s: s | {"batch_norm.running_var": s["batch_norm.running_var"] * 1.1},
        lambda s: s | {"batch_norm.running_mean": 0 * s["batch_norm.running_mean"]},
        lambda s: (
            s | {"input_linear.weight": np.roll(s["input_linear.weight"], PLAIN["input_size"], 1)}
        ),
    ],
    ids=["running variance", "running mean", "trend and seasonal part swapped"],
)
def test_a_mistake_in_the_weights_is_caught(parity: Any, settled: Any, mutate: Any) -> None:
    assert settled(verdict_of(parity), 3) == ""
    assert settled(verdict_of(parity, mutate=mutate), 3) != ""


def verdict_of(parity: Any, **changes: Any) -> Callable[[int], Verdict]:
    """The verdict on the plain model, which may be made with a mistake, by seed."""
    return lambda seed: parity("xLSTMTime", PLAIN, seed, **changes).both(
        *case(PLAIN, 5, 7, seed), seed=seed
    )


def test_a_window_that_reaches_back_instead_of_ahead_is_caught(
    parity: Any, settled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SeriesDecomposition.__call__
    backwards = lambda self, x: tuple(part[:, ::-1] for part in real(self, x[:, ::-1]))  # noqa: E731
    monkeypatch.setattr(SeriesDecomposition, "__call__", backwards)
    assert settled(verdict_of(parity), 3) != ""


@pytest.mark.parametrize("kind", STATES)
def test_running_statistics_move_as_upstream_in_training_only(parity: Any, kind: str) -> None:
    options = PLAIN | {"xlstm_type": kind}
    three = parity("xLSTMTime", options, 5)
    names = ["running_mean", "running_var"]
    x = {"encoder_cont": case(options, 5, 7, 5)[0]["encoder_cont"]}
    before = [np.array(three.ours.batch_norm[name]) for name in names]
    three.ours(x)
    assert all(
        np.array_equal(b, np.array(three.ours.batch_norm[n]))
        for b, n in zip(before, names, strict=True)
    )
    three.train()
    for _ in range(3):
        three.ours(x)
        three.source({"encoder_cont": torch.tensor(x["encoder_cont"])})
        three.oracle.batch_norm(
            three.oracle.input_linear(
                torch.cat(
                    three.oracle.decomposition(torch.tensor(x["encoder_cont"]).double())[::-1], -1
                )
            ).transpose(1, 2)
        )
    for name in names:
        ours, source, oracle = (
            np.array(three.ours.batch_norm[name]),
            getattr(three.source.batch_norm, name).numpy(),
            getattr(three.oracle.batch_norm, name).numpy(),
        )
        assert judge(ours, source, oracle).reason == ""
    assert three.ours.batch_norm.num_batches_tracked.item() == 3
    assert three.source.batch_norm.num_batches_tracked.item() == 3


@pytest.mark.parametrize("kind", STATES)
def test_weights_carry_upstreams_names_in_upstreams_order(parity: Any, kind: str) -> None:
    three = parity("xLSTMTime", PLAIN | {"xlstm_type": kind})
    theirs = three.source.state_dict()
    assert list(three.ours.state_dict()) == list(theirs)
    arrays = [(name, mx.array(tensor.numpy())) for name, tensor in theirs.items()]
    three.ours.load_weights(arrays)
    assert three.ours.state_dict()["batch_norm.num_batches_tracked"].dtype == mx.int64
    trainable = {name for name, _ in tree_flatten(three.ours.trainable_parameters())}
    assert trainable == {name for name, _ in three.source.named_parameters()}
    three.ours.freeze()
    three.ours.unfreeze()
    assert trainable == {name for name, _ in tree_flatten(three.ours.trainable_parameters())}


def test_the_output_answers_like_upstreams(parity: Any) -> None:
    three = parity("xLSTMTime", PLAIN)
    x = case(PLAIN, 5, 7, 3)[0]["encoder_cont"]
    ours = three.ours({"encoder_cont": x})
    theirs = three.source({"encoder_cont": torch.tensor(x)})
    assert ours._fields == theirs._fields == ours.keys()
    assert ours.prediction.shape == tuple(theirs.prediction.shape) == (5, 4, 1)
    for out in (ours, theirs):
        assert out["prediction"] is out.prediction is out[0] is out.get("prediction")
        assert [name for name, _ in out.items()] == ["prediction"]
        assert out.get("attention", 7) == 7
        assert isinstance(out, tuple)
    assert ours.iget(slice(1, 3)).prediction.shape == tuple(
        theirs.iget(slice(1, 3)).prediction.shape
    )


def test_states_default_to_zeros(parity: Any) -> None:
    for kind in STATES:
        three = parity("xLSTMTime", PLAIN | {"xlstm_type": kind})
        x = {"encoder_cont": case(PLAIN, 5, 7, 3)[0]["encoder_cont"]}
        given = three.ours(x, three.ours.lstm.init_hidden(5)).prediction
        assert np.array_equal(np.array(three.ours(x).prediction), np.array(given))


def test_upstreams_refusals_are_ours() -> None:
    model = xLSTMTime(3, 8, 4)
    one = np.zeros((1, 6, 3), np.float32)
    for training in (True, False):
        model.train(training)
        with pytest.raises(ValueError, match="over the batch"):
            model({"encoder_cont": one})
    model.train()
    with pytest.raises(ShapeError, match="more than one value per channel while training"):
        model({"encoder_cont": one[:, :1]})
    with pytest.raises(ShapeError, match=r"\[N, L, 3\].*got \[2, 6, 2\]"):
        model({"encoder_cont": np.zeros((2, 6, 2), np.float32)})
    narrow = xLSTMTime(3, 8, 4, input_projection_size=6)
    with pytest.raises(RuntimeError, match="expected 8 channels, got 6"):
        narrow({"encoder_cont": np.zeros((2, 6, 3), np.float32)})
    with pytest.raises(ValueError, match="'slstm' or 'mlstm', got 'lstm'"):
        xLSTMTime(3, 8, 4, xlstm_type="lstm")  # type: ignore[arg-type]


def test_arguments_of_the_training_loop_are_kept_and_unknown_ones_refused() -> None:
    model = xLSTMTime(3, 8, 4, learning_rate=0.01, optimizer="sgd", loss="mae", target="y")
    assert model.hparams.learning_rate == 0.01
    assert (model.hparams.optimizer, model.hparams.loss) == ("sgd", "mae")
    assert model.hparams.output_size == 4
    assert not hasattr(model.hparams, "target")
    assert set(model.state_dict()) == set(xLSTMTime(3, 8, 4).state_dict())
    xLSTMTime(3, 8, 4, monotone_constraints={})
    with pytest.raises(UnsupportedError, match="monotone_constraints"):
        xLSTMTime(3, 8, 4, monotone_constraints={"0": 1})
    with pytest.raises(UsageError, match="got hidden"):
        xLSTMTime(3, 8, 4, hidden=3)
    with pytest.raises(NotImplementedError, match="hparams and state dict"):
        xLSTMTime.from_dataset(object(), hidden_size=8)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("kind", STATES)
def test_half_precision_stays_half_in_training_and_out_of_it(kind: str, dtype: mx.Dtype) -> None:
    model = xLSTMTime(3, 8, 4, xlstm_type=kind)  # type: ignore[arg-type]
    model.set_dtype(dtype)
    x = {"encoder_cont": mx.random.normal((5, 6, 3)).astype(dtype)}

    def loss(model: nn.Module) -> mx.array:
        y: mx.array = model(x).prediction
        return (y * y).mean()

    value, gradients = nn.value_and_grad(model, loss)(model)
    assert value.dtype == dtype
    assert all(g.dtype == dtype and mx.isfinite(g).all() for _, g in tree_flatten(gradients))
    model.eval()
    assert model(x).prediction.dtype == dtype
    kept = {n: a.dtype for n, a in model.state_dict().items() if "tracked" not in n}
    assert set(kept.values()) == {dtype}


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 999))
def test_decomposition(kernel: int, L: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(1, 2, (3, L, 2)).astype(np.float32)
    source = upstream_layers.SeriesDecomposition(kernel)
    ours = SeriesDecomposition(kernel)(mx.array(x))
    theirs, truth = source(torch.tensor(x)), source(torch.tensor(x).double())
    for mine, their, true in zip(ours, theirs, truth, strict=True):
        assert mine.shape == tuple(true.shape)
        unit = np.abs(x).max()  # the seasonal part is a small difference of such numbers
        assert np.abs(np.array(mine) - true.numpy()).max() <= 4 * max(
            np.abs(their.numpy() - true.numpy()).max(), 2.0**-23 * unit
        )
