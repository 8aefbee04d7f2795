"""pytorch-forecasting's mLSTM and sLSTM as the package computes them, not as the paper has them.

Source: pytorch-forecasting 1.8. In evaluation mode: dropout does nothing.
Shape letters: N batch, L length, D input, H hidden, K layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import sigmoid
from lstm_bridge.equivalence.oracle.lstm import Array, Options, Params


def _under(params: Params, prefix: str) -> dict[str, Array]:
    return {k[len(prefix) :]: v for k, v in params.items() if k.startswith(prefix)}


def _linear(p: Params, name: str, x: Array) -> Array:
    y = x @ p[f"{name}.weight"].T
    return np.asarray(y + p[f"{name}.bias"] if f"{name}.bias" in p else y)


def _layer_norm(p: Params, name: str, x: Array) -> Array:
    """Normalise the last axis by its population variance plus 1e-5; nothing where not in use."""
    if f"{name}.weight" not in p:
        return x
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    normed = centred / np.sqrt(variance + 1e-5)
    return np.asarray(normed * p[f"{name}.weight"] + p[f"{name}.bias"])


def mlstm_cell(p: Params, x: Array, h: Array, c: Array, n: Array) -> tuple[Array, Array, Array]:
    """One mLSTM step: ``x [N, D]`` and states ``[N, H]`` to the next ``h, c, n``.

    The query and the previous h take no part in the result, upstream as here.
    """
    H = p["Wk.weight"].shape[0]
    k = _layer_norm(p, "ln_k", _linear(p, "Wk", x) / math.sqrt(H))
    v = _layer_norm(p, "ln_v", _linear(p, "Wv", x))
    i, f, o = (sigmoid(_layer_norm(p, f"ln_{g}", _linear(p, f"W{g}", x))) for g in "ifo")
    outer = k[:, :, None] * v[:, None, :]
    c = f * c + i * outer.sum(axis=1)
    n = f * n + i * k
    length = np.sqrt((n * n).sum(axis=-1, keepdims=True))
    return o * np.tanh(c * (n / (length + 1e-8))), c, n


def _exponential_gate(z: Array) -> Array:
    e = np.exp(np.clip(z - z.mean(axis=1, keepdims=True), -5, 5))
    return np.asarray(e / (e.sum(axis=1, keepdims=True) + 1e-6))


def slstm_cell(p: Params, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One sLSTM step: ``x [N, D]`` and states ``[N, H]`` to the next ``h, c``."""
    z = _layer_norm(p, "ln_input", _linear(p, "input_weights", x))
    z = z + _layer_norm(p, "ln_hidden_update", _linear(p, "hidden_weights", h))
    zi, zf, zg, zo = np.split(z, 4, axis=1)
    i, f = _exponential_gate(zi), _exponential_gate(zf)
    total = i + f + 1e-6
    c = _layer_norm(p, "ln_cell", f / total * c + i / total * np.tanh(zg))
    return sigmoid(zo) * _layer_norm(p, "ln_hidden", np.tanh(c)), c


def _initial(params: Params, options: Options, x: Array, states: Any, count: int) -> list[Any]:
    """Per layer a tuple of states; zeros unless all are given, as upstream."""
    K, H = options.get("num_layers", 1), options["hidden_size"]
    if any(s is None for s in states) or not states:
        zero = np.zeros((x.shape[1], H), x.dtype)
        return [(zero,) * count for _ in range(K)]
    return [tuple(np.asarray(s[k], x.dtype) for s in states) for k in range(K)]


def _mlstm_layer(o: Options, p: Params, x: Array, *states: Any) -> Any:
    residual = o.get("residual_conn", True)
    layers = _initial(p, o, x, states, 3)
    ys = []
    for x_t in x:
        for k, state in enumerate(layers):
            h, c, n = mlstm_cell(_under(p, f"cells.{k}."), x_t, *state)
            h = h + x_t if residual and k else h
            layers[k], x_t = (h, c, n), h
        ys.append(x_t)
    return np.stack(ys), tuple(np.stack(s) for s in zip(*layers, strict=True))


def _slstm_residual(p: Params, k: int, x: Array, H: int) -> Array | float:
    if k == 0 and "input_projection.weight" in p:
        return _linear(p, "input_projection", x)
    return x if x.shape[-1] == H else 0.0


def _slstm_layer(o: Options, p: Params, x: Array, *states: Any) -> Any:
    H = o["hidden_size"]
    layers = _initial(p, o, x, states, 2)
    ys = []
    for x_t in x:
        for k, state in enumerate(layers):
            h, c = slstm_cell(_under(p, f"cells.{k}."), x_t, *state)
            if o.get("use_residual", True):
                h = h + _slstm_residual(p, k, x_t, H)
            h = _layer_norm(p, f"layer_norm_layers.{k}", h)
            layers[k], x_t = (h, c), h
        ys.append(x_t)
    hs, cs = zip(*layers, strict=True)
    return np.stack(ys), (list(hs), list(cs))


def _network(layer: Callable[..., Any], prefix: str) -> Callable[..., Any]:
    def run(o: Options, p: Params, x: Array, *states: Any) -> Any:
        inner = {
            "hidden_size": o["hidden_size"],
            "num_layers": o["num_layers"],
            "residual_conn": o.get("use_residual", True),
        }
        y, last = layer(inner, _under(p, prefix), x, *states)
        return _linear(p, "fc", y[-1]), last

    return run


def _cell(step: Callable[..., Any]) -> Callable[..., Any]:
    return lambda o, p, x, *states: step(p, x, *states)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "mLSTMCell": _cell(mlstm_cell),
    "mLSTMLayer": _mlstm_layer,
    "mLSTMNetwork": _network(_mlstm_layer, "mlstm_layer."),
    "sLSTMCell": _cell(slstm_cell),
    "sLSTMLayer": _slstm_layer,
    "sLSTMNetwork": _network(_slstm_layer, "slstm_layer."),
}
"""Class name → ``(options, params, x, *states) -> outputs``."""


def _decomposed(x: Array, size: int) -> tuple[Array, Array]:
    """Seasonal part and trend: a moving average over the series with its ends repeated."""
    back, ahead = (size - 1) // 2, size // 2
    wide = np.concatenate(
        [np.repeat(x[:, :1], back, axis=1), x, np.repeat(x[:, -1:], ahead, axis=1)], axis=1
    )
    parts = [wide[:, k : k + x.shape[1]] for k in range(size)]
    trend = np.asarray(sum(parts) / size)
    return x - trend, trend


def _series_decomposition(o: Options, p: Params, x: Array) -> tuple[Array, Array]:
    return _decomposed(x, o["kernel_size"])


def _xlstm_time(o: Options, p: Params, x: Any, *states: Any) -> Any:
    series = x["encoder_cont"] if isinstance(x, dict) else x
    seasonal, trend = _decomposed(series, o.get("decomposition_kernel", 25))
    y = _linear(p, "input_linear", np.concatenate([trend, seasonal], axis=-1))
    y = (y - p["batch_norm.running_mean"]) / np.sqrt(p["batch_norm.running_var"] + 1e-5)
    y = y * p["batch_norm.weight"] + p["batch_norm.bias"]
    H, count = o["hidden_size"], o.get("num_layers", 1)
    kind = o.get("xlstm_type", "slstm")
    zeros = np.zeros((len(series), H), y.dtype)
    network: Callable[..., Any]
    start: tuple[Any, ...]
    if kind == "mlstm":
        network, start = FUNCTIONS["mLSTMNetwork"], (np.stack([zeros] * count),) * 3
    else:
        network, start = FUNCTIONS["sLSTMNetwork"], ([zeros] * count,) * 2
    made = network(
        {"hidden_size": H, "num_layers": count}, _under(p, "lstm."), y.swapaxes(0, 1), *start
    )
    out = _linear(p, "output_linear", made[0])
    centred = out - out.mean(axis=0)
    out = centred / np.sqrt((centred**2).mean(axis=0) + 1e-5)
    return (out[..., None],)


AROUND: dict[str, Callable[..., Any]] = {
    "pytorch_forecasting.layers.SeriesDecomposition": _series_decomposition,
    "pytorch_forecasting.models.xLSTMTime": _xlstm_time,
}
"""Class path → ``(options, params, x) -> outputs``."""
