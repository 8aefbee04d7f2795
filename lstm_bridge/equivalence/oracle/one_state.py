"""GRU and the simple recurrent network of torch and Keras, step by step.

Shape letters: N batch, L length, D input, H hidden, K layers · directions. ::

    torch.nn.RNN     h' = f(W x + b + U h + c)
    torch.nn.GRU     r, z = sigma(W x + b + U h + c) each
                     n = tanh(W_n x + b_n + r * (U_n h + c_n));  h' = (1 - z) * n + z * h
    keras GRU        as torch's with its own gate order and reset_after, or
                     n = f(W_n x + b_n + U_n (r * h)) without it

Source: torch 2.13, keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.keras_wrappers import looped
from lstm_bridge.equivalence.oracle.lstm import Array, Options, Params
from lstm_bridge.equivalence.tree import leaves

Step = Callable[[Array, Array], Array]


def _torch_step(o: Options, p: Params, end: str, gru: bool) -> Step:
    W, U = p[f"weight_ih{end}"], p[f"weight_hh{end}"]
    zero = np.zeros(len(W), W.dtype)
    b, c = p.get(f"bias_ih{end}", zero), p.get(f"bias_hh{end}", zero)

    def rnn(x: Array, h: Array) -> Array:
        return np.asarray(ACTIVATIONS[o.get("nonlinearity", "tanh")].f(x @ W.T + b + h @ U.T + c))

    def gated(x: Array, h: Array) -> Array:
        xr, xz, xn = np.split(x @ W.T + b, 3, axis=-1)
        hr, hz, hn = np.split(h @ U.T + c, 3, axis=-1)
        sigma = ACTIVATIONS["sigmoid"].f
        z = sigma(xz + hz)
        n = np.tanh(xn + sigma(xr + hr) * hn)
        return np.asarray((1 - z) * n + z * h)

    return gated if gru else rnn


def _keras_step(o: Options, p: Params, prefix: str, gru: bool) -> Step:
    W, U = p[f"{prefix}kernel"], p[f"{prefix}recurrent_kernel"]
    H = len(U)
    phi = ACTIVATIONS[o.get("activation", "tanh") or "linear"].f
    sigma = ACTIVATIONS[o.get("recurrent_activation", "sigmoid") or "linear"].f
    bias = p.get(f"{prefix}bias", np.zeros(W.shape[1], W.dtype))
    b, c = bias if bias.ndim == 2 else (bias, np.zeros_like(bias))

    def rnn(x: Array, h: Array) -> Array:
        return np.asarray(phi(x @ W + b + h @ U))

    def gated(x: Array, h: Array) -> Array:
        xz, xr, xn = np.split(x @ W + b, 3, axis=-1)
        hz, hr = np.split(h @ U[:, : 2 * H] + c[: 2 * H], 2, axis=-1)
        z, r = sigma(xz + hz), sigma(xr + hr)
        Un, cn = U[:, 2 * H :], c[2 * H :]
        inner = r * (h @ Un + cn) if o.get("reset_after", True) else (r * h) @ Un
        return np.asarray(z * h + (1 - z) * phi(xn + inner))

    return gated if gru else rnn


def _run(step: Step, x: Array, h: Array, backward: bool) -> tuple[Array, Array]:
    """Outputs ``[N, L, H]`` at the input's time positions, and the last state."""
    y = np.zeros((*x.shape[:2], h.shape[-1]), x.dtype)
    for t in reversed(range(x.shape[1])) if backward else range(x.shape[1]):
        h = step(x[:, t], h)
        y[:, t] = h
    return y, h


def _torch_layer(gru: bool) -> Callable[..., Any]:
    def layer(o: Options, p: Params, x: Array, h0: Array | None = None) -> Any:
        unbatched, first = x.ndim == 2, bool(o.get("batch_first", False))
        x = x[None] if unbatched else x if first else x.swapaxes(0, 1)
        ends = ("", "_reverse") if o.get("bidirectional") else ("",)
        last: list[Array] = []
        for k in range(o.get("num_layers", 1)):
            outs = []
            for end in ends:
                name = f"_l{k}{end}"
                H = p[f"weight_hh{name}"].shape[1]
                given = None if h0 is None else h0[len(last)]
                h = np.zeros((len(x), H), x.dtype) if given is None else given.reshape(-1, H)
                y, h = _run(_torch_step(o, p, name, gru), x, h, end == "_reverse")
                outs.append(y)
                last.append(h)
            x = np.concatenate(outs, axis=-1)
        h_n = np.stack(last)
        if unbatched:
            return x[0], h_n[:, 0]
        return (x if first else x.swapaxes(0, 1)), h_n

    return layer


def _torch_cell(gru: bool) -> Callable[..., Any]:
    def cell(o: Options, p: Params, x: Array, h: Array | None = None) -> Any:
        h = np.zeros((*x.shape[:-1], p["weight_hh"].shape[1]), x.dtype) if h is None else h
        return _torch_step(o, p, "", gru)(x, h)

    return cell


def _keras_layer(gru: bool) -> Callable[..., Any]:
    def layer(o: Options, p: Params, x: Array, state: Any = None, mask: Array | None = None) -> Any:
        step = _keras_step(o, p, "cell." if "cell.kernel" in p else "", gru)
        start = leaves(state) or [np.zeros((len(x), o["units"]), x.dtype)]

        def both(x_t: Array, states: Any) -> tuple[Array, Any]:
            h = step(x_t, states[0])
            return h, [h]

        y, last = looped(both, o, x, start, mask)
        return (y, *last) if o.get("return_state") else y

    return layer


def _keras_cell(gru: bool) -> Callable[..., Any]:
    def cell(o: Options, p: Params, x: Array, states: Any) -> Any:
        h = states[0] if isinstance(states, list | tuple) else states
        new = _keras_step(o, p, "", gru)(x, h)
        return new, [new] if isinstance(states, list | tuple) else new

    return cell


ONE_STATE: dict[str, Callable[..., Any]] = {
    "torch.nn.GRU": _torch_layer(gru=True),
    "torch.nn.RNN": _torch_layer(gru=False),
    "torch.nn.GRUCell": _torch_cell(gru=True),
    "torch.nn.RNNCell": _torch_cell(gru=False),
    "keras.layers.GRU": _keras_layer(gru=True),
    "keras.layers.SimpleRNN": _keras_layer(gru=False),
    "keras.layers.GRUCell": _keras_cell(gru=True),
    "keras.layers.SimpleRNNCell": _keras_cell(gru=False),
}
"""Class path → function of options, parameters and call arguments."""
