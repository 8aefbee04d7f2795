"""One LSTM problem in three hands: the fused kernel, MLX's own operations, the float64 oracle."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from lstm_bridge.core import native
from lstm_bridge.core.sequence import run
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.oracle import gradients, lstm

Arrays = dict[str, NDArray[np.float64]]


class Problem(NamedTuple):
    """Numbers (time-major) and options."""

    arrays: dict[str, NDArray[np.float32]]
    mask: NDArray[np.bool_] | None
    reverse: bool
    zero_masked: bool


def problem(
    sizes: tuple[int, int, int, int],
    *,
    P: int | None = None,
    mask: str = "none",
    reverse: bool = False,
    zero_masked: bool = False,
    seed: int = 0,
) -> Problem:
    """Draw a problem of ``N, L, D, H``; mask "lengths" has one empty row, "gaps" holes."""
    N, L, D, H = sizes
    rng = np.random.default_rng(seed)
    width = P or H
    shapes = {
        "x": (L, N, D),
        "Wx": (4 * H, D),
        "Wh": (4 * H, width),
        "bias": (4 * H,),
        "h": (N, width),
        "c": (N, H),
        "dy": (L, N, width),
        "dcs": (L, N, H),
        "dh": (N, width),
        "dc": (N, H),
    } | ({"Wp": (P, H)} if P else {})
    scale = {"Wx": D**-0.5, "Wh": width**-0.5, "Wp": H**-0.5}
    arrays = {
        name: rng.normal(0, scale.get(name, 1.0), shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    masks = {
        "none": None,
        "lengths": np.arange(L)[:, None] < (np.arange(N) * 5 % (L + 1))[None, :],
        "gaps": rng.random((L, N)) < 0.6,
    }
    return Problem(arrays, masks[mask], reverse, zero_masked)


def outputs(p: dict[str, mx.array], of: Problem) -> list[mx.array]:
    """y, cs, h and c, by whichever path is in force."""
    mask = None if of.mask is None else mx.array(of.mask)
    with mx.stream(mx.cpu):
        done = run(
            LSTMWeights(p["Wx"], p["Wh"], p.get("bias"), p.get("Wp")),
            p["x"],
            p.get("h"),
            p.get("c"),
            reverse=of.reverse,
            mask=mask,
            zero_masked=of.zero_masked,
            cells=True,
        )
    return [done.y, done.cs, done.h, done.c]


INPUTS = ("x", "Wx", "Wh", "bias", "h", "c", "Wp")


def results(of: Problem) -> dict[str, mx.array]:
    """Values and gradients, by whichever path is in force."""
    arrays = {name: mx.array(a) for name, a in of.arrays.items()}
    names = [name for name in INPUTS if name in arrays]
    down = [arrays[name] for name in ("dy", "dcs", "dh", "dc")]
    with mx.stream(mx.cpu):
        values, slopes = mx.vjp(
            lambda *a: outputs(dict(zip(names, a, strict=True)), of),
            [arrays[name] for name in names],
            down,
        )
        mx.eval(values, slopes)
    found = dict(zip(("y", "cs", "h_n", "c_n"), values, strict=True))
    return found | {f"d{name}": slope for name, slope in zip(names, slopes, strict=True)}


def composed(of: Problem) -> dict[str, mx.array]:
    """The same by MLX's own operations."""
    with native.disabled():
        return results(of)


def truth(of: Problem) -> Arrays:
    """The same by the float64 oracle."""
    a = {name: array.astype(np.float64) for name, array in of.arrays.items()}

    def turn(array: NDArray[np.float64]) -> NDArray[np.float64]:
        return array.swapaxes(0, 1)

    one = lstm.direction(a["Wx"], a["Wh"], a["bias"], projection=a.get("Wp"), reverse=of.reverse)
    mask = None if of.mask is None else of.mask.T
    r = lstm.run(one, turn(a["x"]), a["h"], a["c"], mask, of.zero_masked)
    g = gradients.backward(r, turn(a["dy"]), a["dh"], a["dc"], turn(a["dcs"]))
    dWx, dWh, dbias = g.rows()
    found = {"y": turn(r.y), "cs": turn(r.cs), "h_n": r.h, "c_n": r.c, "dx": turn(g.x)}
    found |= {"dWx": dWx, "dWh": dWh, "dbias": dbias, "dh": g.h0, "dc": g.c0}
    return found | ({} if g.projection is None else {"dWp": g.projection})


def failures(ours: dict[str, mx.array], source: dict[str, mx.array], oracle: Arrays) -> list[str]:
    """What the numeric policy does not pass, values and gradients each judged by name."""
    assert ours.keys() == source.keys() == oracle.keys()
    verdicts = {
        name: judge(np.array(ours[name]), np.array(source[name]), oracle[name]) for name in oracle
    }
    return [f"{name}: {v.reason}" for name, v in verdicts.items() if not v.passed]
