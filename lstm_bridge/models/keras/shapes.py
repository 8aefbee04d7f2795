"""The shapes of what layers, functions and nested models return, known before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lstm_bridge.keras.layers import call_spec
from lstm_bridge.models.graph import descend, resolve
from lstm_bridge.models.keras.nest import in_order
from lstm_bridge.models.keras.operations import KERAS_OPERATIONS, inferred_shape
from lstm_bridge.models.keras.over_time import TimeDistributedModel
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.keras.sizes import Sizes


class Shaped:
    """Stands for a tensor where only its shape is known."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


def mapped(function: Any, value: Any) -> Any:
    """The function of each member of a container; anything else as it is."""
    if isinstance(value, list | tuple):
        made = [function(v) for v in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, Mapping):
        return {k: function(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(function(v) for v in (value.start, value.stop, value.step)))
    return value


def is_several(shapes: Any) -> bool:
    """Say whether these are shapes, not a shape."""
    if isinstance(shapes, Mapping):
        return True
    return isinstance(shapes, list | tuple) and any(
        isinstance(s, list | tuple | Mapping | Sizes) for s in shapes
    )


def nth(shapes: Any, output: int) -> Any:
    """The shape of one output, as Keras counts through a nest of them."""
    return list(_each(shapes))[output] if is_several(shapes) else shapes


def _each(shapes: Any) -> Iterator[Any]:
    if not is_several(shapes):
        yield shapes
        return
    inner = [shapes[k] for k in sorted(shapes)] if isinstance(shapes, Mapping) else shapes
    for one in inner:
        yield from _each(one)


def standing(shapes: Any) -> Any:
    """A stand-in for each array of a nest; sizes of arrays stand for themselves."""
    if isinstance(shapes, Sizes):
        return shapes
    if not is_several(shapes):
        return Shaped(shapes)
    if isinstance(shapes, Mapping):
        return {k: standing(v) for k, v in shapes.items()}
    return [standing(v) for v in shapes]


def plain_shapes(shapes: Any) -> Any:
    """The same as JSON has it."""
    if isinstance(shapes, Sizes):
        return list(shapes.shape)
    if isinstance(shapes, list | tuple):
        return [plain_shapes(s) for s in shapes]
    return mapped(plain_shapes, shapes)


def bare(value: Any) -> Any:
    """Shapes out of their stand-ins."""
    return value.shape if isinstance(value, Shaped) else mapped(bare, value)


def _has_shape(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(_has_shape(v) for v in value)
    return isinstance(value, Shaped)


def by_argument(layer: Any, method: str, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the shapes for ``build`` or ``compute_output_shape`` by their argument names."""
    known = call_spec.parameters_of(type(layer).call)
    bound = call_spec.signature_of(type(layer).call).bind(
        *args, **{k: v for k, v in kwargs.items() if k in known}
    )
    shapes = {f"{k}_shape": bare(v) for k, v in bound.arguments.items() if _has_shape(v)}
    names = list(call_spec.parameters_of(getattr(type(layer), method)))
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()))}
    return {name: shapes[name] for name in names if name in shapes}


def output_shapes(layer: Any, args: Any, kwargs: Any) -> Any:
    """Return the shapes of what a layer or model returns for arguments of known shapes."""
    if isinstance(layer, KerasModel):
        return _model_shapes(layer, args)
    shapes = by_argument(layer, "compute_output_shape", args, kwargs)
    names = list(call_spec.parameters_of(type(layer).compute_output_shape))
    if len(names) > 1 and names[0] not in shapes:  # named otherwise than call's argument
        shapes = {names[0]: bare(args[0]), **shapes}
    found = layer.compute_output_shape(**shapes)
    if kwargs.get("return_attention_scores"):
        return [found, (found[0], None, None, None)]
    return found


def _model_shapes(model: KerasModel, given: Any) -> Any:
    """Return the shapes of a nested model's outputs for its inputs' shapes."""
    if isinstance(model, TimeDistributedModel):
        (wide,) = (one.shape for one in in_order(given))
        inner = _model_shapes(model.layer, Shaped((wide[0], *wide[2:])))
        return (inner[0], wide[1], *inner[1:])
    values: dict[str, Any] = {}
    for about, one in zip(model._options["inputs"], in_order(given), strict=True):
        sizes = zip(about["shape"], one.shape, strict=False)
        values[str(about["name"])] = Shaped(tuple(n if m is None else m for m, n in sizes))
    for node in model.graph.nodes:
        args, kwargs = resolve(node.args, values), resolve(dict(node.kwargs), values)
        if node.op == "output":
            return bare(args[0])
        if node.op == "module":
            values[node.name] = standing(output_shapes(descend(model, node.target), args, kwargs))
        elif node.op == "keras.Output":
            values[node.name] = in_order(args[0])[args[1]]
        elif node.op != "input":
            found = inferred_shape(KERAS_OPERATIONS[node.op], args, kwargs)
            values[node.name] = standing(found)
    raise AssertionError("a graph ends with its output")
