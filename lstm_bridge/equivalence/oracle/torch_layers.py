"""torch.nn's layers around recurrent ones by their documentation. Source: torch 2.13.

Every function takes ``(options, params, *inputs)`` and computes in the dtype of its arrays.
Shape letters: N batch, L length, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import torch_functional as functional
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.lstm import Options, Params
from lstm_bridge.equivalence.oracle.torch_windows import (
    WINDOWED,
    conv_layer,
    multihead_attention,
)

Layer = Callable[..., Any]


def _weighted(function: Callable[..., Any]) -> Layer:
    """A function of inputs, then weight and bias."""
    return lambda o, p, *xs: function(*xs, p["weight"], p.get("bias"))


def _with_options(function: Callable[..., Any], *names: str) -> Layer:
    """A function of an input and of options by its own names, which are torch.nn's too."""
    return lambda o, p, *xs: function(*xs, **{n: o[n] for n in names if n in o})


def _plain(name: str) -> Layer:
    return lambda o, p, x: functional.SIMPLE[name](x)


def _embedding_bag(
    o: Options, p: Params, x: Array, offsets: Array | None = None, weights: Array | None = None
) -> Array:
    return functional.embedding_bag(
        x,
        p["weight"],
        offsets,
        *_norm(o),
        mode=o.get("mode", "mean"),
        per_sample_weights=weights,
        padding_idx=o.get("padding_idx"),
        include_last_offset=bool(o.get("include_last_offset")),
    )


def _embedding(o: Options, p: Params, x: Array) -> Array:
    return functional.embedding(x, p["weight"], None, *_norm(o))


def _norm(o: Options) -> tuple[Any, float]:
    return o.get("max_norm"), o.get("norm_type", 2.0)


def _conv_transpose1d(o: Options, p: Params, x: Array, output_size: Any = None) -> Array:
    names = ("stride", "padding", "output_padding", "groups", "dilation")
    given = {n: o[n] for n in names if n in o}
    return np.asarray(WINDOWED["conv_transpose1d"](x, p["weight"], p.get("bias"), **given))


def _layer_norm(o: Options, p: Params, x: Array) -> Array:
    return functional.layer_norm(
        x, o["normalized_shape"], p.get("weight"), p.get("bias"), o.get("eps", 1e-5)
    )


def _rms_norm(o: Options, p: Params, x: Array) -> Array:
    return functional.rms_norm(x, o["normalized_shape"], p.get("weight"), o.get("eps"))


def _batch_norm(o: Options, p: Params, x: Array) -> Array:
    running = p.get("running_mean"), p.get("running_var")
    return functional.batch_norm(
        x, *running, p.get("weight"), p.get("bias"), eps=o.get("eps", 1e-5)
    )


def _instance_norm(o: Options, p: Params, x: Array) -> Array:
    unbatched = x.ndim == 2
    y = functional.instance_norm(
        x[None] if unbatched else x,
        p.get("running_mean"),
        p.get("running_var"),
        p.get("weight"),
        p.get("bias"),
        use_input_stats="running_mean" not in p,
        eps=o.get("eps", 1e-5),
    )
    return y[0] if unbatched else y


def _group_norm(o: Options, p: Params, x: Array) -> Array:
    return functional.group_norm(
        x, o["num_groups"], p.get("weight"), p.get("bias"), o.get("eps", 1e-5)
    )


def _pad(mode: str) -> Layer:
    def layer(o: Options, p: Params, x: Array) -> Array:
        around = o["padding"]
        pair = [around, around] if isinstance(around, int) else list(around)
        return functional.pad(x, pair, mode, o.get("value", 0.0) if mode == "constant" else None)

    return layer


def _flatten(o: Options, p: Params, x: Array) -> Array:
    start, end = o.get("start_dim", 1) % x.ndim, o.get("end_dim", -1) % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _unflatten(o: Options, p: Params, x: Array) -> Array:
    dim = o["dim"] % x.ndim
    return x.reshape(*x.shape[:dim], *o["unflattened_size"], *x.shape[dim + 1 :])


def _same(o: Options, p: Params, x: Array) -> Array:
    return x


def _distance(o: Options, p: Params, a: Array, b: Array) -> Array:
    return functional.pairwise_distance(
        a, b, o.get("p", o.get("norm", 2.0)), o.get("eps", 1e-6), o.get("keepdim", False)
    )


_POOL = ("kernel_size", "stride", "padding", "ceil_mode")

_BY_NAME: dict[str, Layer] = {
    "Linear": _weighted(functional.linear),
    "Bilinear": _weighted(functional.bilinear),
    "Embedding": _embedding,
    "EmbeddingBag": _embedding_bag,
    "Conv1d": conv_layer,
    "Conv2d": conv_layer,
    "ConvTranspose1d": _conv_transpose1d,
    "MultiheadAttention": multihead_attention,
    **{
        f"MaxPool{n}d": _with_options(WINDOWED[f"max_pool{n}d"], *_POOL, "dilation") for n in (1, 2)
    },
    **{
        f"AvgPool{n}d": _with_options(
            WINDOWED[f"avg_pool{n}d"], *_POOL, "count_include_pad", "divisor_override"
        )
        for n in (1, 2)
    },
    **{
        f"Adaptive{kind}Pool{n}d": _with_options(
            WINDOWED[f"adaptive_{kind.lower()}_pool{n}d"], "output_size"
        )
        for kind in ("Avg", "Max")
        for n in (1, 2)
    },
    "LayerNorm": _layer_norm,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "InstanceNorm1d": _instance_norm,
    "GroupNorm": _group_norm,
    "RMSNorm": _rms_norm,
    "ReLU": _plain("relu"),
    "ReLU6": _plain("relu6"),
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "SiLU": _plain("silu"),
    "Mish": _plain("mish"),
    "SELU": _plain("selu"),
    "Softsign": _plain("softsign"),
    "Tanhshrink": _plain("tanhshrink"),
    "LogSigmoid": _plain("logsigmoid"),
    "Hardsigmoid": _plain("hardsigmoid"),
    "Hardswish": _plain("hardswish"),
    "LeakyReLU": _with_options(functional.leaky_relu, "negative_slope"),
    "RReLU": _with_options(functional.rrelu, "lower", "upper"),
    "PReLU": lambda o, p, x: functional.prelu(x, p["weight"]),
    "ELU": _with_options(functional.elu, "alpha"),
    "CELU": _with_options(functional.celu, "alpha"),
    "GELU": _with_options(functional.gelu, "approximate"),
    "GLU": _with_options(functional.glu, "dim"),
    "Hardtanh": _with_options(functional.hardtanh, "min_val", "max_val"),
    "Hardshrink": _with_options(functional.hardshrink, "lambd"),
    "Softshrink": _with_options(functional.softshrink, "lambd"),
    "Softplus": _with_options(functional.softplus, "beta", "threshold"),
    "Threshold": _with_options(functional.threshold, "threshold", "value"),
    "Softmax": _with_options(functional.softmax, "dim"),
    "Softmin": _with_options(functional.SIMPLE["softmin"], "dim"),
    "LogSoftmax": _with_options(functional.SIMPLE["log_softmax"], "dim"),
    "CosineSimilarity": _with_options(functional.cosine_similarity, "dim", "eps"),
    "PairwiseDistance": _distance,
    "ConstantPad1d": _pad("constant"),
    "ZeroPad1d": _pad("constant"),
    "ReflectionPad1d": _pad("reflect"),
    "ReplicationPad1d": _pad("replicate"),
    "Flatten": _flatten,
    "Unflatten": _unflatten,
    "Identity": _same,
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "AlphaDropout"), _same),
}

TORCH_LAYERS: dict[str, Layer] = {f"torch.nn.{name}": f for name, f in _BY_NAME.items()}
"""Class path → function of options, parameters and inputs."""
