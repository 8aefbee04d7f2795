"""A TorchScript file (``torch.jit.trace`` or ``script``) as a running MLX model, without torch.

The archive holds text that looks like Python. It is parsed and followed, never run. A record is one
call after the other. What was scripted holds control flow besides: loops over a length become
loops, questions of the mode are asked at every call, others are refused unless they are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import mlx.core as mx

from lstm_bridge.checkpoints import Checkpoint, open_checkpoint
from lstm_bridge.checkpoints.torch_zip import TorchZip
from lstm_bridge.converters.recipe import Apply, Recipe, Source
from lstm_bridge.errors import ContainerError, UnsupportedError
from lstm_bridge.models.blank import blank_arrays, filled
from lstm_bridge.models.graph import Graph, Node
from lstm_bridge.models.torch.fold import folded
from lstm_bridge.models.torch.merge import in_both_modes
from lstm_bridge.models.torch.model import TorchModel
from lstm_bridge.models.torch.script_code import ScriptCode
from lstm_bridge.models.torch.script_reader import Reader
from lstm_bridge.models.whole import Part


def script_structure(archive: Checkpoint) -> tuple[TorchModel, dict[str, Recipe]]:
    """Return the model of a recorded archive without its numbers, and how each of them is made.

    Args:
        archive: the open file.

    Raises:
        UnsupportedError: naming the operation, and the line of the archive's code.
        RefusedInput: the archive is damaged.
    """
    if not isinstance(archive, TorchZip) or not is_script(archive):
        raise ContainerError(
            archive.path, expected="a recorded TorchScript file", got=archive.format,
            fix="port the torch module itself, or convert the weights",
        )  # fmt: skip
    names = archive.constants()
    scalars = {n: archive.read(n).item() for n in names if archive.tensors[n].shape == ()}
    tensors = [n for n in archive.tensors if n not in scalars]
    aliases = _aliases(archive, tensors)
    values = [scalars.get(n, n) for n in names]
    code, qualified = ScriptCode(archive), str(archive.metadata["class"])

    def reader_of(training: bool) -> Reader:
        return Reader(code, values, aliases, frozenset(archive.tensors), training)

    reader = reader_of(False)
    nodes = reader.read(qualified)
    halves = {half for pair in reader.normed.values() for half in pair} - _read(nodes)
    held = [n for n in tensors if n not in aliases and n not in halves]
    facts = {n: archive.tensors[n] for n in held}
    facts |= {target: archive.tensors[v] for target, (_, v) in reader.normed.items()}
    shapes = {n: info.shape for n, info in facts.items()}
    graph, parts = folded(nodes, shapes)
    parts += [reader.layers[path] for path in sorted(reader.layers)]
    if reader.asked_mode:
        graph, more = _in_both_modes(graph, lambda: reader_of(True).read(qualified), shapes)
        parts += more
    owned = tuple(f"{part.path}." for part in parts)
    loose = {n: info for n, info in facts.items() if not n.startswith(owned)}
    options: dict[str, Any] = {
        "aliases": aliases,
        "buffers": [n for n in held if n in reader.buffers],
        "constants": [n for n in names if n in loose],
    }
    if reader.normed:
        options["folded"] = dict.fromkeys(reader.normed, "weight_norm")
    model = TorchModel(parts, graph, blank_arrays(loose), options)
    model.eval()
    recipes: dict[str, Recipe] = {n: Source(n) for n in held}
    for target, pair in reader.normed.items():
        recipes[target] = Apply("weight norm", tuple(Source(half) for half in pair))
    return model, recipes


def _in_both_modes(
    evaluating: Graph, read: Callable[[], list[Node]], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Graph, tuple[Part, ...]]:
    """Return a graph that does in training what the text does then, and the parts it needs."""
    try:
        training: Any = folded(read(), shapes)[0]
    except UnsupportedError as error:
        training = error
    merged = in_both_modes(evaluating, training)
    return merged.graph, merged.parts


def _read(nodes: list[Node]) -> set[str]:
    """Return the arrays that nodes read."""
    refs = {name for node in nodes for name in node.refs()}
    return {node.target for node in nodes if node.op == "parameter" and node.name in refs}


def _aliases(archive: TorchZip, names: list[str]) -> dict[str, str]:
    """Return the further names of tied tensors: of the same place in the file, in one shape."""
    first: dict[Any, str] = {}
    found = {name: first.setdefault(archive.views[name], name) for name in names}
    return {name: kept for name, kept in found.items() if name != kept}


def port_script(file: str | PathLike[str]) -> TorchModel:
    """Return the model of a recorded TorchScript file.

    Args:
        file: what ``torch.jit.save`` wrote.

    Raises:
        UnsupportedError: naming the operation, and the line of the archive's code.
        RefusedInput: the file is damaged, or no TorchScript.
        FileSystemError: it cannot be read.
    """
    with open_checkpoint(Path(file)) as archive:
        model, recipes = script_structure(archive)
        filled(model, recipes, archive)
        mx.eval(model.parameters())
        return model


def is_script(checkpoint: Checkpoint) -> bool:
    """Say whether a checkpoint is a TorchScript archive."""
    return isinstance(checkpoint, TorchZip) and bool(checkpoint.metadata["torchscript"])
