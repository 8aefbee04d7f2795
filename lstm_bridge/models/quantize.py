"""MLX's quantization of a model's Linear, Dense and Embedding layers, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.dtypes import DTYPES, from_mlx, to_mlx
from lstm_bridge.errors import BridgeError, UsageError
from lstm_bridge.models.graph import descend

BITS = (8, 4)
GROUP_SIZES = (64, 32)
"""Numbers that share a scale: the first that divides a layer's width is taken."""


class Quantized(NamedTuple):
    """What quantizing did to a model.

    Args:
        packed: array of the quantized model → how it is made.
        weights: path of a quantized layer → full name of the parameter that it packs.
        kept: path of a layer that could not be quantized → why.
    """

    packed: dict[str, Packed]
    weights: dict[str, str]
    kept: dict[str, str]


class Packed(NamedTuple):
    """One array of a quantized layer.

    Args:
        weight: full name of the parameter that it comes from.
        leaf: its own name in its layer.
        shape: its shape.
        dtype: its code.
        maker: quantizes the layer.
    """

    weight: str
    leaf: str
    shape: tuple[int, ...]
    dtype: str
    maker: _Maker

    def array(self, weight: Array, code: str) -> Array:
        """Return the array for a weight as a checkpoint gives it."""
        return self.maker.array(self.leaf, weight, code)


class _Maker:
    """Quantizes one layer once its weight is there; holds results until each was taken."""

    def __init__(self, plain: nn.Module, parameter: str, how: Mapping[str, Any]) -> None:
        self._plain, self._parameter, self._how = plain, parameter, dict(how)
        self._made: dict[str, mx.array] = {}

    def array(self, leaf: str, weight: Array, code: str) -> Array:
        if leaf not in self._made:
            self._plain[self._parameter] = to_mlx(weight, code)
            module = self._plain.to_quantized(**self._how)
            self._made = {name: module[name] for name in ("weight", "scales", "biases")}
            mx.eval(self._made)
            del self._plain[self._parameter]
        return from_mlx(self._made.pop(leaf))[0]


def quantize(model: nn.Module, bits: int) -> Quantized:
    """Quantize, in place, what of a model has an equal in MLX's quantization.

    Recurrent layers and whatever else is no product of an input with one matrix stay as they are.
    Nothing is computed yet.

    Args:
        model: the model; its numbers need not be there.
        bits: 8 or 4 per number.

    Returns:
        Quantized.

    Raises:
        UsageError: another number of bits, or nothing in the model quantizes.
    """
    if bits not in BITS:
        raise UsageError("quantize", expected="8 or 4 bits", got=repr(bits))
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    kept: dict[str, str] = {}

    def choose(path: str, module: nn.Module) -> bool | dict[str, Any]:
        if not hasattr(module, "to_quantized"):
            return False
        how, why = _fitting(module, bits)
        if why:
            kept[path] = why
            return False
        found[path] = (module, how)
        return dict(how)

    nn.quantize(model, class_predicate=choose)
    if not found:
        reasons = "; ".join(f"{path}: {why}" for path, why in kept.items())
        raise UsageError(
            "quantize",
            expected="a model with a Linear, Dense or Embedding layer that quantizes",
            got=reasons or "none",
        )
    packed: dict[str, Packed] = {}
    weights: dict[str, str] = {}
    for path, (plain, how) in found.items():
        new = dict(tree_flatten(descend(model, path).parameters()))
        old = dict(tree_flatten(plain.parameters()))
        (parameter,) = (n for n in old if not _is_kept(n, old, new))
        weights[path] = f"{path}.{parameter}".lstrip(".")
        maker = _Maker(plain, parameter, how)
        for leaf in (n for n in new if not _is_kept(n, old, new)):
            packed[f"{path}.{leaf}".lstrip(".")] = Packed(
                weights[path], leaf, tuple(new[leaf].shape), _code(new[leaf]), maker
            )
    return Quantized(packed, weights, kept)


def _is_kept(name: str, old: Mapping[str, mx.array], new: Mapping[str, mx.array]) -> bool:
    return (
        name in old
        and name in new
        and (old[name].shape, old[name].dtype) == (new[name].shape, new[name].dtype)
    )


def _code(array: mx.array) -> str:
    return next(code for code, dtype in DTYPES.items() if dtype.mlx == array.dtype)


def _fitting(module: Any, bits: int) -> tuple[dict[str, Any], str]:
    """Return how a layer is quantized, or why it is not."""
    why = ""
    for size in GROUP_SIZES:
        how = {"group_size": size, "bits": bits, "mode": "affine"}
        try:
            module.to_quantized(**how)
        except BridgeError as error:
            return {}, str(error)
        except ValueError as error:  # MLX's word for a width that groups do not divide
            why = " ".join(str(error).split())
        else:
            return how, ""
    width = next(
        (a.shape for n, a in module.items() if n in ("weight", "kernel", "embeddings")), ()
    )
    return {}, f"its width in {list(width)} is no multiple of {GROUP_SIZES[-1]}" if width else why


def quantized_places(model: nn.Module) -> list[dict[str, Any]]:
    """Return the places that ``mlx.nn.quantize`` has changed, and how."""
    found = []
    for path, module in model.named_modules():
        # Every quantized class of MLX has these; its scales tell it from an unquantized one.
        if "scales" in module and hasattr(module, "bits"):
            how = {"bits": module.bits, "group_size": module.group_size}
            found.append({"path": path, **how, "mode": getattr(module, "mode", "affine")})
    return sorted(found, key=lambda entry: str(entry["path"]))


def quantize_again(root: Any, quantized: Iterable[Mapping[str, Any]]) -> Any:
    """Return a module with its layers quantized as a description says, before numbers are loaded.

    Args:
        root: the module.
        quantized: what ``quantized_places`` found.

    Raises:
        UsageError: a place that is not in the model, or holds no layer that quantizes.
    """
    for how in quantized:
        path = str(how["path"])
        try:
            plain = descend(root, path)
        except (KeyError, IndexError, TypeError, ValueError):
            plain = None
        if not hasattr(plain, "to_quantized"):
            raise UsageError(
                f"quantized {path!r}", expected="a layer that quantizes", got=type(plain).__name__
            )
        module = plain.to_quantized(
            group_size=int(how["group_size"]), bits=int(how["bits"]), mode=str(how["mode"])
        )
        if not path:
            return module
        parent, _, last = path.rpartition(".")
        holder = descend(root, parent)
        holder[int(last) if isinstance(holder, list) else last] = module
    return root
