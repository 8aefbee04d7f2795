"""An MLX module as a party: a front-end of this package, stock mlx.nn.LSTM, or one's own."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import mlx.core as mx
import mlx.utils
import numpy as np

from lstm_bridge.equivalence.kinds import SEQUENTIAL
from lstm_bridge.equivalence.parties.base import Array, Gradients, Party, evaluation
from lstm_bridge.equivalence.parties.find import party_of
from lstm_bridge.equivalence.parties.watch import Visit, watched
from lstm_bridge.equivalence.tree import apply, leaves, rebuild
from lstm_bridge.models.torch.model import TorchModel


def mlx_party(module: Any, kind: str, dtype: str | None = None) -> Party:
    """Return an MLX module as a party; it is run in evaluation mode and left as it was.

    Args:
        module: the module.
        kind: class path that an oracle exists for; "" if none.
        dtype: run a copy of it in this dtype. Default: as it is.
    """
    if dtype is not None:
        module = _copied(module)
        module.set_dtype(getattr(mx, dtype))
    params = dict(mlx.utils.tree_flatten(module.parameters()))
    floats = [p.dtype for p in params.values() if mx.issubdtype(p.dtype, mx.floating)]
    held = floats[0] if floats else mx.float32
    return Party(
        f"{type(module).__module__}.{type(module).__qualname__} on mlx {version('mlx')}",
        _call(module, kind, held),
        kind,
        {},
        {name: to_numpy(p) for name, p in params.items()},
        _gradients(module, kind, held),
        eps=mx.finfo(held).eps if held != mx.bfloat16 else 2.0**-7,
        trace=_trace(module, kind, held),
        part=lambda path: party_of(dict(module.named_modules())[path], path),
        described=module.describe if isinstance(module, TorchModel) else None,
    )


def _copied(module: Any) -> Any:
    """A deep copy; MLX's own functions, which a module may hold, cannot be copied and stay."""
    kind: Any = type(mx.tanh)
    before = copyreg.dispatch_table.get(kind)
    copyreg.pickle(kind, lambda function: function.__name__)
    try:
        return copy.deepcopy(module)
    finally:
        if before is None:
            del copyreg.dispatch_table[kind]


def _call(module: Any, kind: str, dtype: mx.Dtype) -> Callable[[Sequence[Any]], Any]:
    def call(inputs: Sequence[Any]) -> Any:
        arrays = apply(_to_mlx(dtype), tuple(inputs))
        return apply(to_numpy, _in_evaluation(module, kind, arrays))

    return call


def _trace(module: Any, kind: str, dtype: mx.Dtype) -> Callable[[Sequence[Any]], list[Visit]]:
    def trace(inputs: Sequence[Any]) -> list[Visit]:
        parts = {path: part for path, part in module.named_modules() if path}
        with watched(parts, to_numpy) as visits:
            _call(module, kind, dtype)(inputs)
            return visits()

    return trace


def _in_evaluation(module: Any, kind: str, inputs: tuple[Any, ...]) -> Any:
    with evaluation(module):
        if kind not in SEQUENTIAL:
            return module(*inputs)
        names = ("initial_state", "mask")
        given = {k: v for k, v in zip(names, inputs[1:], strict=False) if v is not None}
        return module(inputs[0], **given)


def _gradients(
    module: Any, kind: str, dtype: mx.Dtype
) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        held = [_to_mlx(dtype)(leaf) for leaf in leaves(tuple(inputs))]
        places = [k for k, a in enumerate(held) if mx.issubdtype(a.dtype, mx.floating)]
        ends = [mx.array(c) for c in cotangents]

        def loss(params: Any, wanted: list[mx.array]) -> mx.array:
            module.update(params)
            arrays = list(held)
            for k, a in zip(places, wanted, strict=True):
                arrays[k] = a
            outs = leaves(_in_evaluation(module, kind, rebuild(tuple(inputs), arrays)))
            terms = [(o.astype(mx.float32) * c).sum() for o, c in zip(outs, ends, strict=True)]
            return mx.sum(mx.stack(terms))

        params = module.parameters()
        try:
            by_param, by_input = mx.grad(loss, argnums=(0, 1))(params, [held[k] for k in places])
            mx.eval(by_param, by_input)
        finally:
            module.update(params)
        named = {name: to_numpy(g) for name, g in mlx.utils.tree_flatten(by_param)}
        return [to_numpy(g) for g in by_input], named

    return gradients


def _to_mlx(dtype: mx.Dtype) -> Callable[[Array], mx.array]:
    def convert(array: Array) -> mx.array:
        made = mx.array(np.array(array, order="C"))  # MLX takes no negative strides
        return made.astype(dtype) if mx.issubdtype(made.dtype, mx.floating) else made

    return convert


def to_numpy(array: mx.array) -> Array:
    """Return an MLX array as NumPy; bfloat16, which NumPy has not, as float32."""
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)
