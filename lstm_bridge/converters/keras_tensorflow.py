"""TensorFlow functions in a tf.keras model's config, as the operations that Keras 3 writes.

``x * 2`` and ``tf.reduce_mean(x, axis=1)`` between layers stand in a tf.keras 2 file as layers of
class TFOpLambda, and ``x[:, -1]`` as a SlicingOpLambda.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_bridge.converters.keras_options import Config, Reader

TENSORFLOW = ("TFOpLambda", "SlicingOpLambda")
"""Classes of tf.keras's layers that are a function each."""


class Rule(NamedTuple):
    """How a function's arguments become an operation's.

    Args:
        operation: class that Keras 3 writes.
        positional: arguments after the first, in the operation's order.
        renamed: TensorFlow's name → the operation's, of arguments that it takes by name.
        fixed: arguments where TensorFlow's default is another one.
    """

    operation: str
    positional: tuple[str, ...] = ()
    renamed: Mapping[str, str] = {}
    fixed: Mapping[str, Any] = {}


_AXIS = {"axis": "axis"}
_TYPED = {"dtype": "dtype"}
_REDUCED = {"axis": "axis", "keepdims": "keepdims"}

_BINARY = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract",
    "math.multiply": "Multiply", "math.truediv": "TrueDivide", "math.divide": "TrueDivide",
    "math.floordiv": "FloorDivide", "math.pow": "Power", "math.maximum": "Maximum",
    "math.minimum": "Minimum", "math.equal": "Equal", "math.not_equal": "NotEqual",
    "math.greater": "Greater", "math.greater_equal": "GreaterEqual", "math.less": "Less",
    "math.floormod": "Mod", "math.less_equal": "LessEqual", "math.logical_and": "LogicalAnd",
    "math.logical_or": "LogicalOr", "__operators__.eq": "Equal", "__operators__.ne": "NotEqual",
}  # fmt: skip
_UNARY = {
    "math.abs": "Absolute", "math.negative": "Negative", "math.square": "Square",
    "math.sqrt": "Sqrt", "math.rsqrt": "Rsqrt", "math.exp": "Exp", "math.log": "Log",
    "math.log1p": "Log1p", "math.tanh": "Tanh", "math.sigmoid": "Sigmoid", "math.sign": "Sign",
    "nn.tanh": "Tanh", "nn.sigmoid": "Sigmoid", "nn.relu": "Relu", "nn.relu6": "Relu6",
    "nn.elu": "Elu", "nn.selu": "Selu", "nn.softplus": "Softplus", "nn.silu": "Silu",
    "math.softplus": "Softplus", "nn.softsign": "Softsign", "math.sin": "Sin",
    "math.cos": "Cos", "math.floor": "Floor", "math.ceil": "Ceil", "math.erf": "Erf",
    "math.logical_not": "LogicalNot", "stop_gradient": "StopGradient", "identity": "Copy",
    "zeros_like": "ZerosLike", "ones_like": "OnesLike",
}  # fmt: skip
_REDUCTIONS = {
    "math.reduce_sum": "Sum", "math.reduce_mean": "Mean", "math.reduce_max": "Max",
    "math.reduce_min": "Min", "math.reduce_prod": "Prod", "math.reduce_any": "Any",
    "math.reduce_all": "All", "math.reduce_std": "Std", "math.reduce_variance": "Var",
    "math.reduce_logsumexp": "Logsumexp",
}  # fmt: skip

RULES: Mapping[str, Rule] = {
    **{name: Rule(to, ("y",)) for name, to in _BINARY.items()},
    **{name: Rule(to) for name, to in _UNARY.items()},
    **{name: Rule(to, (), _REDUCED) for name, to in _REDUCTIONS.items()},
    "__operators__.getitem": Rule("GetItem", ("slice_spec",)),
    "broadcast_to": Rule("BroadcastTo", ("shape",)),
    "cast": Rule("Cast", ("dtype",)),
    "clip_by_value": Rule("Clip", ("clip_value_min", "clip_value_max")),
    "concat": Rule("Concatenate", (), _AXIS),
    "expand_dims": Rule("ExpandDims", ("axis",)),
    "fill": Rule("Full", ("value",)),
    "gather": Rule("Take", ("indices",), _AXIS, {"axis": 0}),
    "linalg.matmul": Rule("Matmul", ("b",), {k: k for k in ("transpose_a", "transpose_b")}),
    "math.cumsum": Rule("Cumsum", (), _AXIS, {"axis": 0}),
    "math.l2_normalize": Rule("Normalize", (), _AXIS, {"epsilon": 1e-6}),  # whose square counts
    "nn.gelu": Rule("Gelu", (), {"approximate": "approximate"}, {"approximate": False}),
    "nn.leaky_relu": Rule("LeakyRelu", (), {"alpha": "negative_slope"}),
    "nn.log_softmax": Rule("LogSoftmax", (), _AXIS),
    "nn.softmax": Rule("Softmax", (), _AXIS),
    "one_hot": Rule("OneHot", ("depth",), {"axis": "axis", "dtype": "dtype"}),
    "ones": Rule("Ones", (), _TYPED),
    "pad": Rule("Pad", (), {k: k for k in ("constant_values", "mode")} | {"paddings": "pad_width"}),
    "range": Rule("Range", (), {k: k for k in ("limit", "delta", "dtype")}),
    "repeat": Rule("Repeat", ("repeats",), _AXIS),
    "reshape": Rule("Reshape", ("shape",)),
    "reverse": Rule("Flip", ("axis",)),
    "sequence_mask": Rule("SequenceMask", ("maxlen",), _TYPED),
    "shape": Rule("Shape", (), {"out_type": "dtype"}),
    "size": Rule("Size", (), {"out_type": "dtype"}),
    "slice": Rule("Slice", ("begin", "size")),
    "split": Rule("Split", ("num_or_size_splits",), _AXIS),
    "squeeze": Rule("Squeeze", (), _AXIS),
    "stack": Rule("Stack", (), _AXIS),
    "tile": Rule("Tile", ("multiples",)),
    "unstack": Rule("Unstack", (), _AXIS),
    "transpose": Rule("Transpose", (), {"perm": "axes"}),
    "where": Rule("Where", ("x", "y")),
    "zeros": Rule("Zeros", (), _TYPED),
}
"""Function of tf.keras 2 → the operation of Keras 3: the only list of them."""


def as_operation(layer: Config, reader: Reader, where: str) -> Config:
    """Return a function's layer as Keras 3 writes it.

    Raises:
        ConfigError: a function outside the table.
    """
    function = _function(layer)
    if function == "einsum":  # whose operands are no named arguments of it
        raise reader.refuse(
            where,
            "a function whose file says what it was applied to",
            "tf.einsum, of which tf.keras 2 writes the equation and not the tensors",
            "wrap it in a layer, or write it with matmul, before saving the model",
        )
    if function not in RULES:
        raise reader.refuse(
            where,
            "a layer, or a TensorFlow function that has an operation here",
            f"tf.{function}"[:80],
            "convert works layer by layer: its recurrent layers still load",
        )
    changed = {"class_name": RULES[function].operation, "module": "keras.src.ops.tensorflow"}
    return {**layer, **changed, "config": {"name": layer["config"].get("name")}, "tf": function}


def arguments(
    layer: Config, first: Any, given: Mapping[str, Any], reader: Reader, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return an operation's arguments from those of the TensorFlow function.

    Args:
        layer: what ``as_operation`` returned.
        first: the first argument: a tensor, a number or a list of them.
        given: the others by name, as the file has them.
        reader: for refusals.
        where: the layer's place, for refusals.

    Raises:
        ConfigError: an argument that the operation has no place for.
    """
    rule = RULES[layer["tf"]]
    known = {*rule.positional, *rule.renamed, "name"}
    wrong = [key for key, value in given.items() if key not in known and value]
    if wrong or any(key not in given for key in rule.positional):
        raise reader.refuse(
            where,
            f"tf.{layer['tf']} of {', '.join([*rule.positional, *rule.renamed]) or 'one argument'}",
            ", ".join(wrong) or "fewer",
            "re-save the model without it",
        )
    if isinstance(given.get("num_or_size_splits"), list):
        sizes = str(given["num_or_size_splits"])
        raise reader.refuse(where, "a number of equal parts", sizes[:80], "slice it instead")
    args = (first, *(_value(given[key], reader, where) for key in rule.positional))
    named = {to: given[key] for key, to in rule.renamed.items() if given.get(key) is not None}
    return args, {**rule.fixed, **named}


def _function(layer: Config) -> str:
    config = layer.get("config")
    return (
        str(config.get("function")).removeprefix("compat.v1.") if isinstance(config, dict) else ""
    )


def _value(value: Any, reader: Reader, where: str) -> Any:
    """A plain value out of a file; slices are dictionaries there."""
    if isinstance(value, list):
        return [_value(v, reader, where) for v in value]
    if isinstance(value, dict):
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if set(value) != {"start", "stop", "step"}:
            raise reader.refuse(where, "plain values and slices", str(value)[:80], "re-save it")
        return slice(value["start"], value["stop"], value["step"])
    return value
