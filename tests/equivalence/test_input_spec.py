"""Inputs by description: what is drawn, and that it is the same every time."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge.torch.nn
from lstm_bridge import InputSpec, compare
from lstm_bridge.equivalence.inputs import drawn
from lstm_bridge.equivalence.precision import PRECISIONS, as_given, to_bfloat16
from lstm_bridge.errors import UsageError

torch = pytest.importorskip("torch", reason="compared with live torch modules")


def draw(spec: InputSpec, seed: int = 0) -> np.ndarray:
    return np.asarray(drawn(spec, seed))


def test_shape_range_and_seed() -> None:
    spec = InputSpec((4, 7, 3), -3, 5)
    x = draw(spec)
    assert x.shape == (4, 7, 3)
    assert x.dtype == np.float32
    assert -3 <= x.min() < -2 < 4 < x.max() <= 5
    assert np.array_equal(x, draw(spec))
    assert not np.array_equal(x, draw(spec, 1))


def test_token_numbers_stay_below_the_top() -> None:
    x = draw(InputSpec((50, 9), 0, 4, "int32"))
    assert x.dtype == np.int32
    assert set(x.ravel().tolist()) == {0, 1, 2, 3}


def test_ragged_lengths_pad_values_and_make_masks() -> None:
    lengths = (4, 0, 2)
    mask = draw(InputSpec((3, 4), dtype="bool", lengths=lengths))
    assert mask.sum(axis=1).tolist() == [4, 0, 2]
    assert mask[2].tolist() == [True, True, False, False]
    x = draw(InputSpec((3, 4, 2), 1, 2, lengths=lengths, pad=-9))
    assert np.array_equal(x == -9, np.repeat(~mask[..., None], 2, -1))


def test_extremes_and_planted_values() -> None:
    x = draw(InputSpec((2, 3), -3.4e38, 3.4e38))
    assert np.isfinite(x).all()
    assert np.abs(x).max() > 1e38
    nan = draw(InputSpec((2, 3, 4), plant={(0, 2): float("nan"), (1, 1, 1): float("inf")}))
    assert np.isnan(nan[0, 2]).all()
    assert np.isinf(nan[1, 1, 1])
    assert np.isfinite(nan).sum() == 24 - 5
    tiny = draw(InputSpec((9,), 1e-40, 2e-40))
    assert (tiny > 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dtype": "float64"}, "int32"),
        ({"low": 2, "high": 1}, "low ≤ high"),
        ({"lengths": (1, 2)}, "one length per row"),
        ({"lengths": (1, 2, 9)}, "number of steps"),
    ],
)
def test_what_makes_no_array_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InputSpec((3, 4), **wrong)


def test_specs_stand_anywhere_in_the_arguments() -> None:
    source = torch.nn.LSTM(3, 5)
    port = lstm_bridge.torch.nn.LSTM(3, 5)
    port.load_weights([(k, mx.array(v.numpy())) for k, v in source.state_dict().items()])
    state = (InputSpec((1, 2, 5)), np.zeros((1, 2, 5), np.float32))
    report = compare(source, port, (InputSpec((6, 2, 3), -9, 9), state), gradients=True)
    assert report.passed
    assert len(report.layers[0].arrays[0].over_time) == 6


def test_bfloat16_rounds_as_torch_does() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 20000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[~np.isnan(values)]
    theirs = torch.tensor(values).to(torch.bfloat16).float().numpy()
    assert np.array_equal(to_bfloat16(values), theirs)
    assert np.isnan(to_bfloat16(np.array([np.nan], np.float32))).all()


def test_rounding_leaves_integers_and_masks_alone() -> None:
    given = as_given((np.arange(3), np.ones(2, bool), np.ones(2), None), PRECISIONS["float16"])
    assert [a.dtype for a in given[:3]] == [np.int64, np.bool_, np.float16]
    assert as_given(np.ones(2), None).dtype == np.float32
