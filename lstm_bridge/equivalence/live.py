"""A layer that a file describes as a live party: its own framework, or the oracle in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.precision import Precision
from lstm_bridge.equivalence.truth import stand_in
from lstm_bridge.errors import UnsupportedError

Array = NDArray[Any]
Params = Mapping[str, Array]


def live_party(
    kind: str, options: Mapping[str, Any], params: Params, chosen: Precision | None = None
) -> Party:
    """Return the live framework's layer where it is installed, the float32 oracle where it is not.

    Args:
        kind: class path.
        options: constructor arguments.
        params: float32 parameters under the class's own names.
        chosen: what to run it in. Default: float32.

    Raises:
        UnsupportedError: half precision is asked of a framework that is not installed.
    """
    package = kind.partition(".")[0]
    missing = missing_framework(package)
    if missing:
        if chosen is not None and chosen.name != "float32":
            raise UnsupportedError(
                f"compare in {chosen.name}", expected=f"{package} installed", got=missing
            )
        return stand_in(kind, options, params, missing)
    layer = _BUILDERS.get(package, _torch)(kind, options, params)
    made = layer if isinstance(layer, Party) else party_of(layer, "source", chosen)
    # The options that the file gives say more than the live object does.
    return replace(made, kind=kind, options=options, params=_rounded(params, chosen))


def _rounded(params: Params, chosen: Precision | None) -> dict[str, Array]:
    if chosen is None:
        return dict(params)
    return {name: chosen.rounded(np.asarray(v, np.float32)) for name, v in params.items()}


def missing_framework(package: str) -> str:
    """Why the framework cannot run here; "" if it can."""
    if package == "mlx":
        return ""
    if find_spec(package) is None or (package == "pytorch_forecasting" and not find_spec("torch")):
        return f"{package.replace('_', '-')} not installed"
    if package != "keras":
        return ""
    backends = [name for name in ("tensorflow", "torch", "jax") if find_spec(name)]
    if not backends:
        return "keras has no backend installed"
    # Keras falls back on TensorFlow, installed or not, and reads this once, when imported.
    if "tensorflow" not in backends:
        os.environ.setdefault("KERAS_BACKEND", backends[0])
    return ""


def _mlx(kind: str, options: Mapping[str, Any], params: Params) -> Any:
    import mlx.nn

    layer = getattr(mlx.nn, kind.rpartition(".")[2])(**options)
    return layer.load_weights([(name, mx.array(value)) for name, value in params.items()])


def _torch(kind: str, options: Mapping[str, Any], params: Params) -> Any:
    from lstm_bridge.equivalence.parties.torch import build_torch

    return build_torch(kind, options, params)


def _keras(kind: str, options: Mapping[str, Any], params: Params) -> Any:
    from lstm_bridge.equivalence.parties.keras import build_keras

    return build_keras(kind, options, params)


_BUILDERS = {"mlx": _mlx, "keras": _keras}
