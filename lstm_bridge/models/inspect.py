"""What a checkpoint holds, from its headers alone: layers, what converts, what does not and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lstm_bridge.converters.recipe import shape_of, sources
from lstm_bridge.models.source import Choices, Pathish, entries, opened


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer that converts: what it is and the shapes of its parameters."""

    path: str
    kind: str
    options: dict[str, Any]
    dtype: str
    shapes: dict[str, tuple[int, ...]]
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TensorReport:
    """One tensor of the source: its shape, dtype and fate."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    fate: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file holds.

    Args:
        file: its path.
        format: its container format.
        framework: the framework that wrote it, where that shows.
        version: that framework's version, where the file says.
        layers: the layers that convert.
        refused: layer path → why it does not convert.
        tensors: every tensor and what becomes of it.
        left_out: what the file holds besides weights → why it is left out.
    """

    file: str
    format: str
    framework: str
    version: str
    layers: tuple[LayerReport, ...]
    refused: dict[str, str]
    tensors: tuple[TensorReport, ...]
    left_out: dict[str, str]

    @property
    def converts(self) -> bool:
        """Whether ``convert`` would take the file as it is."""
        return bool(self.layers) and not self.refused

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, ready for ``json.dumps``."""
        return {"converts": self.converts, **asdict(self)}


def inspect(
    file: Pathish,
    *,
    assume: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    prefix: str | None = None,
    config: Pathish | None = None,
) -> Inspection:
    """Describe a checkpoint without reading its weights.

    Args:
        file: a checkpoint of any supported format.
        assume: options the file does not hold, e.g. ``{"batch_first": True}`` of a torch state
            dict or ``{"recurrent_activation": "sigmoid"}`` of Keras weights. Default: none.
        ignore: shell patterns of tensor names to leave out. Default: none.
        prefix: path of the one layer to convert; the rest is left out. Default: None, all.
        config: Keras architecture JSON for a weights-only file. Default: None.

    Returns:
        Inspection.

    Raises:
        RefusedInput: the container is damaged or hostile.
        FileSystemError: the file cannot be read.
    """
    with opened(file, Choices(assume or {}, ignore, prefix, config)) as (checkpoint, plan):
        facts = entries(checkpoint)
        fates = {name: f"kept as {target}" for name, target in plan.passed.items()}
        fates |= {name: f"refused with {path or '(root)'}" for name, path in plan.claimed.items()}
        fates |= {name: f"left out: {why}" for name, why in plan.left_out.items()}
        fates |= dict.fromkeys(plan.ignored, "ignored, as asked")
        layers = []
        for layer in plan.layers:
            for parameter, recipe in layer.parameters.items():
                fates |= dict.fromkeys(sources(recipe), f"converts to {layer.name_of(parameter)}")
            first = next(iter(layer.parameters.values()))
            layers.append(
                LayerReport(
                    layer.path,
                    layer.kind,
                    dict(layer.options),
                    facts[next(sources(first))].dtype,
                    {name: shape_of(r, facts) for name, r in layer.parameters.items()},
                    layer.rules,
                )
            )
        return Inspection(
            file=str(file),
            format=checkpoint.format,
            framework=checkpoint.framework,
            version=str(checkpoint.metadata.get("keras_version") or ""),
            layers=tuple(layers),
            refused={path or "(root)": str(why) for path, why in plan.refused.items()},
            tensors=tuple(TensorReport(n, e.shape, e.dtype, fates[n]) for n, e in facts.items()),
            left_out={**checkpoint.left_out, **plan.code},
        )
