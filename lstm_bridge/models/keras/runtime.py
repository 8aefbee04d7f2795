"""A Keras model as it runs here: called, asked for predictions and looked into as in Keras."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers import call_spec
from lstm_bridge.keras.masks import get_keras_mask, set_keras_mask
from lstm_bridge.models.graph import Graph, execute
from lstm_bridge.models.keras.nest import in_order
from lstm_bridge.models.keras.surface import Surface
from lstm_bridge.models.operations import OPERATIONS
from lstm_bridge.models.whole import MODELS

_DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}


class KerasModel(Surface):
    """A Sequential or Functional model of Keras, on MLX.

    ``model(x)`` infers; ``model.train()`` or ``training=True`` make dropout drop and batch
    normalization look at the batch. Masks travel from layer to layer as in Keras.

    Source: keras.Sequential and keras.Model 3.15.
    """

    KIND: ClassVar[str] = "models.KerasModel"

    # --- calling -------------------------------------------------------------------------------

    def __call__(
        self, *inputs: Any, training: bool | None = None, mask: Any = None, **named: Any
    ) -> Any:
        """Run the model.

        Args:
            inputs: one array; or several, or a list, or a dictionary by input name.
            training: as in Keras. Default: what the model around says, else True after
                ``train()``, else what each call was built with.
            mask: boolean, of the first input, or a list of the inputs' masks. Default: None.
            named: inputs by name.

        Returns:
            What the model returns: an array, or a list or dictionary of them.

        Raises:
            UsageError: an input is missing, or one too many.
            ShapeError: an input has another shape than the model's.
        """
        values = self._given(inputs, named)
        for name, one in zip(self._graph.inputs, in_order(mask), strict=False):
            if one is not None:
                values[name] = values[name][:]  # the caller's own array gets no mask
                set_keras_mask(values[name], as_array(one, "mask"))
        if training is None:
            training = call_spec.training_context.get()
        if training is None and self.training:
            training = True
        told = training is not None and self._options.get("told_training_holds")
        depth = call_spec.call_depth.get()
        if depth == 0:
            self._clear_losses()
        inner = call_spec.training_context.set(training), call_spec.call_depth.set(depth + 1)
        try:
            return execute(self._told_graph if told else self._graph, self, OPERATIONS, values)
        finally:
            call_spec.training_context.reset(inner[0])
            call_spec.call_depth.reset(inner[1])

    @cached_property
    def _told_graph(self) -> Graph:
        """The graph without the ``training`` that calls were built with."""
        kwargs = ({k: v for k, v in n.kwargs.items() if k != "training"} for n in self._graph.nodes)
        return Graph(
            tuple(replace(n, kwargs=k) for n, k in zip(self._graph.nodes, kwargs, strict=True))
        )

    def _given(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        one: Any = inputs[0] if len(inputs) == 1 else None
        about = {str(entry["name"]): entry for entry in self._options["inputs"]}
        if isinstance(one, dict):
            names = {str(e.get("key", name)): name for name, e in about.items()}
            by_name = {names.get(str(k), str(k)): v for k, v in one.items()}
            inputs, named = (), {**by_name, **named}
        elif isinstance(one, list | tuple):
            inputs = tuple(in_order(one))
        values = self._bound(inputs, named)
        return {name: _as_input(value, about[name]) for name, value in values.items()}

    def predict(self, x: Any, batch_size: int | None = None, verbose: str | int = "auto") -> Any:
        """Run the model over many rows, some at a time, and return NumPy arrays.

        Args:
            x: inputs as for a call.
            batch_size: rows at a time. Default: None, 32.
            verbose: 0 for silence, 2 for one line when it is done; otherwise a progress bar, on a
                terminal only. Default: "auto".

        Returns:
            The outputs of all rows, nested as the model nests them.

        Raises:
            UsageError: there are no rows, or inputs of different numbers of them.
        """
        batch_size = 32 if batch_size is None else batch_size
        given = self._given((x,), {})
        counts = {value.shape[0] for value in given.values()}
        if len(counts) != 1 or 0 in counts or batch_size < 1:
            raise UsageError(
                "predict", expected="inputs with the same number of rows, one at least",
                got=f"{sorted(counts)} in batches of {batch_size}",
            )  # fmt: skip
        rows = counts.pop()
        done = []
        for start in _shown(range(0, rows, batch_size), verbose):
            batch = {k: v[start : start + batch_size] for k, v in given.items()}
            outputs = self(batch, training=False)
            mx.eval(outputs)
            done.append(call_spec.map_leaves(_to_numpy, outputs))
        return _joined(done)

    def load_weights(self, file_or_weights: Any, strict: bool = True) -> KerasModel:
        """Take over weights by name, or from a Keras file of the same architecture.

        Args:
            file_or_weights: pairs of name and array, a safetensors file, a converted folder, or
                a Keras weights file of any era.
            strict: names must be the model's own, all of them. Default: True.

        Raises:
            UsageError: names (when strict) or shapes differ; nothing was changed.
            RefusedInput: the Keras file is damaged or of another architecture.
        """
        if isinstance(file_or_weights, str | PathLike):
            path = Path(file_or_weights)
            if path.is_file() and path.suffix != ".safetensors":
                import_module("lstm_bridge.models.keras.load").load_keras_weights(self, path)
                return self
        super().load_weights(file_or_weights, strict)
        return self


MODELS[KerasModel.KIND] = KerasModel


def _as_input(value: Any, about: Mapping[str, Any]) -> mx.array:
    """An input as an array of the kind and shape that the model's input layer says."""
    x = as_array(value, str(about["name"]))
    wanted = _DTYPES.get(str(about["dtype"]))
    if wanted is not None and x.dtype != wanted:
        mask = get_keras_mask(value)
        x = x.astype(wanted)
        if mask is not None:
            set_keras_mask(x, mask)
    shape = about["shape"]
    if x.ndim == len(shape) - 1 and shape[-1] == 1:
        x = x[..., None]
    fits = x.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape[1:], x.shape[1:], strict=True)
    )
    if not fits:
        raise ShapeError(
            f"input {about['name']!r}", expected=f"shape {_shape_text(shape)}", got=str(x.shape)
        )
    return x


def _shape_text(shape: Any) -> str:
    if isinstance(shape, list | tuple) and shape and isinstance(shape[0], list | tuple):
        return ", ".join(map(_shape_text, shape))
    return "?" if shape is None else str(tuple(shape))


def _to_numpy(x: mx.array) -> Any:
    return np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x)


def _joined(parts: list[Any]) -> Any:
    """Concatenate nests of arrays along their rows."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return [_joined([part[k] for part in parts]) for k in range(len(first))]
    return np.concatenate(parts)


def _shown(steps: range, verbose: str | int) -> Iterator[int]:
    """Yield steps, with a progress bar where somebody is looking."""
    if str(verbose) in ("0", "2", "False") or not sys.stderr.isatty():
        start = perf_counter()
        yield from steps
        if str(verbose) == "2":
            seconds = perf_counter() - start
            each = 1000 * seconds / len(steps)
            print(f"{len(steps)}/{len(steps)} - {seconds:.0f}s - {each:.0f}ms/step")
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(steps, description="predict", console=console, transient=True)
