"""A recorded TorchScript module (``torch.jit.trace``) as a running MLX model.

In a recorded graph an LSTM stands as one node, ``aten::lstm``. torch reads the archive; it is
imported inside functions only. Scripted modules (``torch.jit.script``) hold control flow and are
refused where they use it.
"""

from __future__ import annotations

import re
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.layers import to_mlx
from lstm_bridge.models.torch.model import TorchModel
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS

_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
    7: "float64", 11: "bool", 15: "bfloat16",
}  # fmt: skip
"""torch's numbers of dtypes in recorded graphs."""

_AS_IT_IS = ("prim::NumToTensor", "aten::ScalarImplicit", "aten::contiguous", "aten::detach")
_WITHOUT_EFFECT = frozenset(
    {"copy", "device", "layout", "memory_format", "non_blocking", "pin_memory"}
)


def port_script(module: Any) -> TorchModel:
    """Return the model of a recorded module.

    Args:
        module: what ``torch.jit.trace`` or ``torch.jit.load`` returned.

    Raises:
        UnsupportedError: naming the operation, and the line of the source that it came from.
    """
    recorded = _Recorded(module)
    graph = recorded.translate(module.inlined_graph)
    state = module.state_dict()
    arrays = {name: to_mlx(tensor, name) for name, tensor in state.items()}
    arrays |= {name: to_mlx(t, name) for name, t in recorded.constants.items()}
    parameters = {name for name, _ in module.named_parameters()}
    options = {
        "buffers": [name for name in state if name not in parameters],
        "constants": list(recorded.constants),
    }
    model = TorchModel((), graph, arrays, options)
    model.train(module.training)
    return model


class _Recorded:
    """Turns a recorded graph's nodes into ours, one after the other."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.nodes: list[Node] = []
        self.values: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        self.constants: dict[str, Any] = {}

    def translate(self, graph: Any) -> Graph:
        first, *inputs = graph.inputs()
        self.paths[first.debugName()] = ""
        for value in inputs:
            name = _name(value)
            self.values[value.debugName()] = Ref(name)
            self.nodes.append(Node(name, "input"))
        for node in graph.nodes():
            self._add(node)
        outputs = [self.values[value.debugName()] for value in graph.outputs()]
        result = outputs[0] if len(outputs) == 1 else tuple(outputs)
        self.nodes.append(Node("output", "output", "", (result,)))
        made = Graph(tuple(self.nodes))
        made.check()
        return made

    def _add(self, node: Any) -> None:
        kind = node.kind()
        if kind == "prim::GetAttr":
            self._attribute(node)
        elif kind == "prim::Constant":
            self._constant(node)
        elif kind in ("prim::ListConstruct", "prim::TupleConstruct"):
            made = [self._value(v) for v in node.inputs()]
            self._give(node, tuple(made) if kind == "prim::TupleConstruct" else made)
        elif kind in ("prim::ListUnpack", "prim::TupleUnpack"):
            self._unpack(node)
        elif kind in _AS_IT_IS:
            self._give(node, self._value(next(node.inputs())))
        elif kind in ("aten::Int", "aten::IntImplicit"):
            self._call(node, "python.int", (self._value(next(node.inputs())),), {})
        else:
            self._operation(node)

    def _attribute(self, node: Any) -> None:
        owner = self.paths[node.input().debugName()]
        path = f"{owner}.{node.s('name')}".lstrip(".")
        value = node.output()
        if value.type().kind() == "ClassType":
            self.paths[value.debugName()] = path
            return
        name = _name(value)
        self.values[value.debugName()] = Ref(name)
        self.nodes.append(Node(name, "parameter", path))

    def _constant(self, node: Any) -> None:
        import torch

        value = node.output().toIValue()
        if isinstance(value, torch.Tensor):
            name = f"_constant_{len(self.constants)}"
            self.constants[name] = value
            reading = _name(node.output())
            self.nodes.append(Node(reading, "parameter", name))
            value = Ref(reading)
        self._give(node, None if isinstance(value, torch.device) else value)

    def _unpack(self, node: Any) -> None:
        whole = self._value(node.input())
        for place, value in enumerate(node.outputs()):
            if isinstance(whole, tuple | list):
                self.values[value.debugName()] = whole[place]
                continue
            name = _name(value)
            self.nodes.append(Node(name, "aten.unpacked", "", (whole, place)))
            self.values[value.debugName()] = Ref(name)

    def _operation(self, node: Any) -> None:
        _, _, short = node.kind().partition("::")
        names = (f"aten.{short}", f"torch.{short}", f"functional.{short}")
        found = next((name for name in names if name in TORCH_OPERATIONS), None)
        if found is None or node.kind().partition("::")[0] != "aten" or short.endswith("_"):
            raise UnsupportedError(
                f"port TorchScript at {_line(node)}",
                expected="an operation that graphs have",
                got=node.kind(),
                fix="port the torch module itself",
            )
        args, kwargs = self._arguments(node)
        self._call(node, found, args, kwargs)

    def _arguments(self, node: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split an operation's arguments as its schema does."""
        text = re.split(r"\)\s*->", node.schema().partition("(")[2])[0]
        positional, _, named = text.partition("*,")
        count = len(_names_in(positional))
        values = [self._value(v) for v in node.inputs()]
        keywords = dict(zip(_names_in(named), values[count:], strict=True))
        chosen = {k: v for k, v in keywords.items() if k not in _WITHOUT_EFFECT}
        if isinstance(chosen.get("dtype"), int):
            chosen["dtype"] = _DTYPES[chosen["dtype"]]
        own = values[:count]
        if node.kind() == "aten::to":
            own = own[:1] + [_DTYPES[v] for v in own[1:2] if type(v) is int]
        return tuple(own), {k: v for k, v in chosen.items() if v is not None}

    def _call(self, node: Any, op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        outputs = list(node.outputs())
        name = _name(outputs[0])
        if len(outputs) == 1:
            self.nodes.append(Node(name, op, "", args, kwargs))
            self._give(node, Ref(name))
            return
        whole = f"{name}_all"
        self.nodes.append(Node(whole, op, "", args, kwargs))
        for place, value in enumerate(outputs):
            self.nodes.append(Node(_name(value), "aten.unpacked", "", (Ref(whole), place)))
            self.values[value.debugName()] = Ref(_name(value))

    def _give(self, node: Any, value: Any) -> None:
        self.values[node.output().debugName()] = value

    def _value(self, value: Any) -> Any:
        return self.values[value.debugName()]


def _names_in(text: str) -> list[str]:
    """Return the argument names in part of a schema, ``Tensor self, int[2] size=[1, 1]``."""
    flat = re.sub(r"\[[^\]]*\]|\([^)]*\)", "", text)
    return [part.split("=")[0].split()[-1] for part in flat.split(",") if part.strip()]


def _name(value: Any) -> str:
    name = str(value.debugName())
    return f"v{name}" if name[0].isdigit() else name.replace(".", "_")


def _line(node: Any) -> str:
    found = re.findall(r"(\S+\.py)[:(](\d+)", str(node.sourceRange()))
    own = [f"{f.rpartition('/')[2]}:{n}" for f, n in found if "/torch/" not in f]
    return own[0] if own else "an unknown line"
