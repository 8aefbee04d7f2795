"""When the fused kernel serves, when MLX's own operations do, and that both give the same."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from native_problems import Problem, outputs, problem, truth
from native_ways import apart, compilations, graph, second_derivatives, transformations

from lstm_bridge.core import native, sequence
from lstm_bridge.core.paths import portable
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.torch import nn

needs_kernel = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)


def arrays(p: Problem) -> dict[str, mx.array]:
    return {name: mx.array(a) for name, a in p.arrays.items()}


def primitives(p: Problem) -> str:
    """The graph's primitives, as text; nothing of it is computed yet."""
    return graph(lambda: outputs({name: a + 0 for name, a in arrays(p).items()}, p)[0])


@needs_kernel
def test_it_serves_a_cpu_stream() -> None:
    assert "LSTMBridgeLSTM" in primitives(problem((2, 3, 4, 5)))


@needs_kernel
def test_small_sequences_of_what_is_there_are_computed_at_the_call() -> None:
    p = problem((2, 3, 4, 5))
    a = arrays(p)
    large = arrays(problem((32, 100, 64, 64)))
    assert "LSTMBridge" not in graph(lambda: outputs(a, p)[0])
    assert "LSTMBridge" in graph(lambda: outputs(a | {"x": a["x"] + 0}, p)[0])
    assert "LSTMBridge" in graph(lambda: outputs(large, p)[0])


@needs_kernel
def test_so_are_those_of_views_of_it() -> None:
    p = problem((3, 4, 5, 6))
    a = arrays(p)
    bases = {
        "x": a["x"].swapaxes(0, 1) + 0,
        "Wh": a["Wh"].T + 0,
        "h": mx.stack([a["h"], a["h"]]),
        "c": a["c"][None] + 0,
    }

    def views() -> dict[str, mx.array]:
        return a | {
            "x": bases["x"].swapaxes(0, 1),
            "Wh": bases["Wh"].T,
            "h": bases["h"][1:].squeeze(0),
            "c": bases["c"].squeeze(0),
        }

    assert "LSTMBridge" in graph(lambda: outputs(views(), p)[0]), "of what is not there yet"
    mx.eval(bases)
    assert "LSTMBridge" not in graph(lambda: outputs(views(), p)[0])
    with mx.stream(mx.cpu):
        for of_views, plain in zip(outputs(views(), p), outputs(a, p), strict=True):
            assert mx.array_equal(of_views, plain)
        x = views()["x"]
        by_view, plain = (
            mx.grad(lambda Wh, x=x: outputs(a | {"x": x, "Wh": Wh}, p)[0].sum())(a["Wh"])
            for x in (x, a["x"])
        )
        assert mx.array_equal(by_view, plain)


def test_it_can_be_turned_off() -> None:
    p = problem((2, 3, 4, 5))
    with native.disabled():
        assert not native.status().serves
        assert "LSTMBridgeLSTM" not in primitives(p)
    with portable():
        assert "LSTMBridgeLSTM" not in primitives(p)


def test_the_environment_turns_it_off() -> None:
    code = "from lstm_bridge.core import native; print(native.status())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"LSTM_BRIDGE_NATIVE": "0", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "serves=False" in done.stdout
    assert "LSTM_BRIDGE_NATIVE=0" in done.stdout


def test_what_does_not_fit_is_declined() -> None:
    p = arrays(problem((2, 3, 4, 5)))
    odd = {
        "float64": {name: a.astype(mx.float64) for name, a in p.items()},
        "broadcast state": p | {"h": p["h"][:1]},
        "no steps": p | {"x": p["x"][:0]},
    }
    for what, q in odd.items():
        weights = LSTMWeights(q["Wx"], q["Wh"], q["bias"])
        with mx.stream(mx.cpu):
            done = native.lstm(
                weights,
                q["x"],
                q["h"],
                q["c"],
                reverse=False,
                mask=None,
                zero_masked=False,
                cells=False,
            )
        assert done is None, what


def test_other_activations_and_recurrent_masks_run_without_it() -> None:
    p = problem((2, 3, 4, 5))
    a = arrays(p)
    weights = LSTMWeights(a["Wx"], a["Wh"], a["bias"])
    dropout = sequence.Dropout(None, mx.ones((4, 2, 5)))

    def y(options: dict[str, Any]) -> mx.array:
        return sequence.run(weights, a["x"], **options).y

    for options in ({"activation": mx.sigmoid}, {"dropout": dropout}):
        assert "LSTMBridgeLSTM" not in graph(partial(y, options))


def test_transformations_give_what_they_give_without_it() -> None:
    p = problem((2, 4, 3, 5), mask="gaps")
    a = arrays(p)

    def y(x: mx.array, Wh: mx.array) -> mx.array:
        return outputs(a | {"x": x, "Wh": Wh}, p)[0]

    both = (a["x"], a["Wh"])
    assert not apart(transformations(y, *both) | compilations(y, *both), 2e-5)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.LSTMCell])
def test_second_derivatives_by_every_parameter(layer: Any) -> None:
    model = layer(3, 5)
    names = sorted(model.parameters())
    shape = (4, 2, 3) if layer is nn.LSTM else (4, 3)
    x = mx.array(np.random.default_rng(3).normal(size=shape).astype(np.float32))

    def y(*parameters: mx.array) -> mx.array:
        model.update(dict(zip(names, parameters, strict=True)))
        return model(x)[0]

    shapes = [model[name].shape for name in names]
    drawn = [mx.random.normal(s, key=mx.random.key(k)) * 0.5 for k, s in enumerate(shapes)]
    assert not apart(second_derivatives(y, drawn), 2e-5)


def test_an_unused_output_and_a_broadcast_cotangent() -> None:
    p = problem((3, 4, 5, 18))
    a = arrays(p)
    parts = (
        (lambda o: o[0].sum(), ("dy", np.s_[:])),
        (lambda o: o[3].sum() + o[1][0].sum(), ("dc", np.s_[:]), ("dcs", np.s_[0])),
    )
    for part, *used in parts:
        for name in ("dy", "dcs", "dh", "dc"):
            p.arrays[name][:] = 0
        for name, where in used:
            p.arrays[name][where] = 1
        slope = mx.grad(lambda x, part=part: part(outputs(a | {"x": x}, p)))
        with mx.stream(mx.cpu):
            ours = np.array(slope(a["x"]))
            with native.disabled():
                theirs = np.array(slope(a["x"]))
        verdict = judge(ours, theirs, truth(p)["dx"])
        assert verdict.passed, verdict.reason
