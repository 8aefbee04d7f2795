"""What a Keras config says beyond its recurrent layers: code it holds, and who reads whom.

Nothing here is imported or run: a config that names another package's class is only told about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lstm_bridge.converters.keras_options import Config, Reader

_CODE = {
    "Lambda": "holds Python code, which is not run",
    "TFSMLayer": "reads a TensorFlow SavedModel, which is not opened",
    "TorchModuleWrapper": "holds a pickled torch module, which is not read",
    "JaxLayer": "holds code, which is not run",
    "FlaxLayer": "holds code, which is not run",
}
_KERAS = ("keras", "tensorflow.keras", "tf_keras", "keras_core")

CONSTANT = "_CONSTANT_VALUE"
"""tf.keras 2's mark of an argument that is no tensor."""

Node = tuple[str, int]  # a layer, and which of its calls


def code_in(layer: Config, index: int) -> str:
    """Return why a layer is not Keras's own to read; "" if it is."""
    class_name = str(layer["class_name"])
    position = f"layer {index} of its model"
    if class_name in _CODE:
        return f"{class_name}, {position}, {_CODE[class_name]}"
    module, registered = layer.get("module"), layer.get("registered_name")
    own = module is None or str(module).split(".")[0] in _KERAS or str(module).startswith(_KERAS)
    if not own or (registered and ">" in str(registered)) or ">" in class_name:
        where = f" of {str(module)!r}" if module else ""
        return f"{class_name}{where}, {position}, is a custom object, which is not imported"
    return ""


def check_graph(layers: list[Config], reader: Reader) -> None:
    """Refuse inputs from layers that are not there, and calls that wait for each other.

    Raises:
        ConfigError: naming the layer.
    """
    reads: dict[Node, list[Node]] = {}
    names = set()
    for layer in layers:
        name = _name(layer)
        names.add(name)
        calls = layer.get("inbound_nodes")
        for number, call in enumerate(calls if isinstance(calls, list) else []):
            reads[name, number] = [*_histories(call)]
    for (name, _), sources in reads.items():
        for source, _ in sources:
            if source not in names:
                raise reader.refuse(
                    name,
                    "inbound nodes of layers in the model",
                    f"one of {source!r}, which is not there",
                    "the config is damaged: save the model again",
                )
    _check_order(reads, reader)


def _check_order(reads: Mapping[Node, list[Node]], reader: Reader) -> None:
    """Take away, again and again, the calls that wait for none of the rest."""
    waiting = {node: {s for s in sources if s in reads} for node, sources in reads.items()}
    readers: dict[Node, list[Node]] = {}
    for node, sources in waiting.items():
        for source in sources:
            readers.setdefault(source, []).append(node)
    ready = [node for node, sources in waiting.items() if not sources]
    while ready:
        done = ready.pop()
        del waiting[done]
        for node in readers.get(done, ()):
            waiting[node].discard(done)
            if not waiting[node]:
                ready.append(node)
    if waiting:
        names = ", ".join(dict.fromkeys(name for name, _ in waiting))
        raise reader.refuse(
            next(iter(waiting))[0],
            "layers that can be called one after the other",
            f"a cycle through {names}"[:80],
            "the config is damaged: save the model again",
        )


def _name(layer: Config) -> str:
    config = layer.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(layer.get("name") or inner)


def _histories(call: Any) -> Iterator[Node]:
    """Yield the calls whose outputs a call reads; Keras 2 and Keras 3 write them differently."""
    if isinstance(call, dict):
        found = call.get("keras_history")
        if isinstance(found, list) and len(found) == 3 and isinstance(found[1], int):
            yield str(found[0]), found[1]
        for value in call.values():
            yield from _histories(value)
    elif isinstance(call, list):
        if len(call) in (3, 4) and isinstance(call[0], str) and isinstance(call[1], int):
            if call[0] != CONSTANT:
                yield call[0], call[1]
        else:
            for value in call:
                yield from _histories(value)
