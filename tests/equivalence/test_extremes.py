"""Extremes of inputs and sizes: live source, port and oracle agree, and poison stays in its row."""

from __future__ import annotations

import pytest

from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.proof.extremes import (
    COLUMNS,
    EXTREMES,
    KNOWN,
    ROW,
    STEP,
    Extreme,
    applies,
    extreme_inputs,
    run,
)
from lstm_bridge.equivalence.proof.pairs import Pair

for package in ("torch", "keras", "pytorch_forecasting"):
    pytest.importorskip(package, reason="the grid compares with the live frameworks")

GRID = [(p, e) for e in EXTREMES for p in COLUMNS if applies(p, e)]
POISONED = {
    ("NaN", "torch LSTM"): ((ROW, STEP),),
    ("NaN", "torch bidirectional LSTM of two layers"): ((ROW, 0),),
    ("NaN", "keras LSTM"): ((ROW, STEP),),
    ("NaN", "keras Bidirectional"): ((ROW, 0),),
    ("NaN", "mlx LSTM"): ((ROW, STEP),),
    ("NaN", "torch GRU"): ((ROW, STEP),),
    ("NaN", "keras GRU"): ((ROW, STEP),),
    ("NaN", "mLSTMCell"): ((ROW, -1),),
    ("NaN", "sLSTMCell"): ((ROW, -1),),
    ("∞", "mLSTMCell"): ((ROW, -1),),
    ("∞", "sLSTMCell"): ((ROW, -1),),
}
"""Exactly what a planted value poisons: saturated gates swallow an infinity, norms do not."""


@pytest.mark.parametrize(("pair", "extreme"), GRID, ids=lambda value: value.label)
def test_an_extreme(pair: Pair, extreme: Extreme) -> None:
    found = run(pair, extreme)
    if (extreme.label, pair.label) in KNOWN:
        assert not found.passed, "the difference is gone: take it out of KNOWN"
        return
    if extreme.steps == 0:
        assert found.refused
        return
    assert found.passed, found.reason
    assert found.poisoned == POISONED.get((extreme.label.split()[0], pair.label), ())


@pytest.mark.parametrize("pair", [p for p in COLUMNS if p.kind == "torch.nn.LSTM"])
def test_torch_refuses_what_is_refused_here(pair: Pair) -> None:
    empty = next(e for e in EXTREMES if e.steps == 0)
    source = live_party(pair.kind, pair.options, pair.params())
    with pytest.raises(RuntimeError, match="larger than 0"):
        source.call(extreme_inputs(pair, pair.params(), empty))


def test_a_leak_between_rows_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = next(p for p in COLUMNS if p.label == "torch LSTM")
    nan = next(e for e in EXTREMES if e.label.startswith("NaN"))
    right = Pair.front_end

    def leaky(self: Pair, params: object, options: object = None) -> object:
        layer = right(self, params, options)  # type: ignore[arg-type]

        class Leaky(type(layer)):  # type: ignore[misc]
            def __call__(self, x: object, hx: object = None) -> object:
                y, state = super().__call__(x, hx)
                return y + 0 * y.sum(axis=0, keepdims=True), state

        object.__setattr__(layer, "__class__", Leaky)
        return layer

    monkeypatch.setattr(Pair, "front_end", leaky)
    found = run(pair, nan)
    assert not found.passed
    assert len(found.poisoned) > 1
