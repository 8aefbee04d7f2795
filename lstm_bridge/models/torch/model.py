"""A whole model that came from torch, and the way back to torch's own state dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
from mlx.utils import tree_flatten

from lstm_bridge.checkpoints.dtypes import from_mlx
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.checkpoints.torch_writer import write_torch
from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import UsageError
from lstm_bridge.models.atomic import new_file
from lstm_bridge.models.graph import Graph, descend
from lstm_bridge.models.whole import MODELS, Model, Part


class TorchModel(Model):
    """A torch module as a running MLX model, under torch's own names.

    Args:
        parts: the layers.
        graph: what happens to the inputs.
        arrays: parameters, buffers and constants of no layer, by dotted name.
        options: ``aliases`` (further names of tied parameters → the name that is kept),
            ``buffers`` and ``constants`` (names of arrays that never train; constants are in no
            state dict), ``frozen`` (parameters that did not require a gradient) and ``folded``
            (parameters that the torch module computed → by what).

    Raises:
        UsageError: a node of the graph points at nothing, or two names collide.
    """

    KIND: ClassVar[str] = "models.TorchModel"

    def __init__(
        self,
        parts: Iterable[Part],
        graph: Graph,
        arrays: Mapping[str, mx.array] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(parts, graph, arrays, options)
        self._freeze("buffers", "constants", "frozen")

    def unfreeze(self, *args: Any, **kwargs: Any) -> TorchModel:
        """Unfreeze as MLX does, but never buffers and constants."""
        super().unfreeze(*args, **kwargs)
        self._freeze("buffers", "constants")
        return self

    @property
    def folded(self) -> dict[str, str]:
        """Parameters that the torch module computed anew at every call → by what, such as
        ``weight_norm``; here they are plain, and train as such."""
        return dict(self._options.get("folded", {}))

    def state_dict(self) -> dict[str, mx.array]:
        """Return parameters and buffers under the names of the torch module's own state dict.

        Those of ``folded`` are plain: torch loads them once ``remove_weight_norm`` or
        ``remove_parametrizations`` has been called on its module.
        """
        held = dict(tree_flatten(self.parameters()))
        return {name: held[own] for name, own in self.state_names().items()}

    def state_names(self) -> dict[str, str]:
        """Return every name of the torch module's state dict, with the array's name here."""
        constants = self._listed("constants")
        own = {n: n for n, _ in tree_flatten(self.parameters()) if n not in constants}
        return own | dict(self._options.get("aliases", {}))

    def save_torch(self, file: str | PathLike[str], *, force: bool = False) -> None:
        """Write the state dict to a file that torch loads into the original module, strictly.

        Args:
            file: ``.pt`` (``torch.load``) or ``.safetensors`` (``safetensors.torch.load_file``).
            force: replace a file that stands there. Default: False.

        Raises:
            UsageError: another suffix.
            FileSystemError: the file exists, or cannot be written.
        """
        target = Path(file)
        if target.suffix not in (".pt", ".safetensors"):
            raise UsageError(
                "save_torch file", expected="a name ending in .pt or .safetensors", got=target.name
            )
        found = {name: from_mlx(array) for name, array in self.state_dict().items()}
        with new_file(target, force=force) as path:
            if target.suffix == ".pt":
                lazy = [
                    (name, (code, bits.shape, partial(_itself, bits)))
                    for name, (bits, code) in found.items()
                ]
                write_torch(path, lazy, lambda: b"{}")
            else:
                entries = {n: (code, bits.shape, bits) for n, (bits, code) in found.items()}
                write_safetensors(path, entries, {"format": "pt"})

    def load_weights(self, file_or_weights: Any, strict: bool = True) -> TorchModel:
        """Take over the weights of another fine-tune, from a state dict of the torch module too.

        Args:
            file_or_weights: a state dict, pairs of name and array, a weights file, or a folder
                that ``lstm_bridge.save`` wrote.
            strict: names must be the model's own, all of them; constants and the further names of
                tied parameters may be missing or there. Default: True.

        Raises:
            UsageError: names (when strict) or shapes differ; nothing was changed.
        """
        from lstm_bridge.models.tree import read_arrays

        given = file_or_weights
        if isinstance(given, str | PathLike):
            given = read_arrays(Path(given))
        held = dict(tree_flatten(self.parameters()))
        kept = {name: held[name] for name in self._listed("constants") if name in held}
        aliases = self._options.get("aliases", {})
        new = {n: v for n, v in self._multiplied_out(dict(given)).items() if n not in aliases}
        super().load_weights(list((kept | new).items()), strict)
        return self

    def _multiplied_out(self, given: dict[str, Any]) -> dict[str, Any]:
        """Put plain weights in the place of the g and v of those that weight_norm computed."""
        for target in (name for name, kind in self.folded.items() if kind == "weight_norm"):
            path, _, name = target.rpartition(".")
            new = f"{path}.parametrizations.{name}.original".lstrip(".")
            for g, v in ((f"{target}_g", f"{target}_v"), (f"{new}0", f"{new}1")):
                if g in given and v in given:
                    given[target] = _normed(as_array(given.pop(g), g), as_array(given.pop(v), v))
        return given

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> TorchModel:
        """Take over a state dict of the torch module, as ``load_weights`` does."""
        return self.load_weights(state_dict, strict)

    def _listed(self, key: str) -> list[str]:
        return [str(name) for name in self._options.get(key, ())]

    def _freeze(self, *keys: str) -> None:
        for name in (n for key in keys for n in self._listed(key)):
            path, _, last = name.rpartition(".")
            descend(self, path).freeze(keys=[last], recurse=False)


def _itself(bits: Any) -> Any:
    return bits


def _normed(g: mx.array, v: mx.array) -> mx.array:
    """``g v / |v|`` over the axes along which g has one number."""
    axes = [k for k in range(v.ndim) if g.ndim == 0 or g.shape[k] == 1]
    return v * (g / mx.sqrt(mx.sum(v * v, axis=axes, keepdims=True)))


MODELS[TorchModel.KIND] = TorchModel
