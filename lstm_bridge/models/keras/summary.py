"""The table that ``model.summary()`` prints, in the form of Keras 3."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lstm_bridge.errors import UsageError
from lstm_bridge.models.graph import Graph

_Form = tuple[int, tuple[float, ...], tuple[str, ...]]  # width, ends of columns, header

_CHAIN: _Form = (88, (0.45, 0.80, 1.0), ("Layer (type)", "Output Shape", "Param #"))
_WEB: _Form = (108, (0.3, 0.56, 0.74, 1.0), (*_CHAIN[2], "Connected to"))


def summary_text(
    model: Any,
    line_length: int | None,
    positions: Sequence[float] | None,
    expand_nested: bool,
    show_trainable: bool,
    layer_range: Sequence[str] | None,
) -> str:
    """Return the summary of a model; see ``Surface.summary`` for the arguments."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    chain = _is_chain(model)
    width, ends, header = _CHAIN if chain else _WEB
    ends = tuple(positions or ends)
    if show_trainable:
        width, ends, header = width + 12, (*(0.9 * e for e in ends), 1.0), (*header, "Trainable")
    width = line_length or min(width, shutil.get_terminal_size().columns - 4)
    edges = [0, *(int(end * width) for end in ends)]
    sides = {"Param #": "right", "Trainable": "center"}
    columns = [
        Column(name, justify=sides.get(name, "left"), width=b - a)  # type: ignore[arg-type]
        for name, a, b in zip(header, edges, edges[1:], strict=False)
    ]
    table = Table(*columns, width=width, show_lines=True)
    for row in _rows(model, expand_nested, _within(model, layer_range)):
        shown = row[:3] if chain else row[:4]
        table.add_row(*(Text(cell) for cell in (*shown, row[4])[: len(header)]))
    console = Console(highlight=False, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(Text(f'Model: "{model.name}"'))
        console.print(table)
        for line in _totals(model):
            console.print(Text(line))
    return capture.get().rstrip("\n")


def _entries(model: Any) -> list[dict[str, str]]:
    """Each layer's and function's name and class, as the file lists them."""
    listed = model._options.get("layers")
    if listed:
        return list(listed)
    return [{"name": p.path, "class": p.kind.rpartition(".")[2]} for p in model.parts]


def _within(model: Any, layer_range: Sequence[str] | None) -> list[dict[str, str]]:
    entries = _entries(model)
    if layer_range is None:
        return entries
    found = [[k for k, e in enumerate(entries) if re.match(x, e["name"])] for x in layer_range]
    if len(found) != 2 or not all(found):
        raise UsageError(
            "layer_range", expected="expressions for a first and a last name", got=str(layer_range)
        )
    places = (min(found[0]), max(found[1]))
    if places[0] > places[1]:
        places = (min(found[1]), max(found[0]))
    return entries[places[0] : places[1] + 1]


def _rows(
    model: Any, expand: bool, entries: list[dict[str, str]], level: int = 0
) -> Iterator[list[str]]:
    shapes = model._options.get("shapes", {})
    shapes = {**{str(i["name"]): i["shape"] for i in model._options["inputs"]}, **shapes}
    modules = {part.path: part.module for part in model.parts}
    reads = _connections(model.graph)
    prefix = "   " * level + "└ " if level else ""
    for entry in entries:
        name, module = entry["name"], modules.get(entry["name"])
        trained = "-"
        if module is not None and module.weights:
            trained = "Y" if module.trainable else "N"
        yield [
            f"{prefix}{name} ({entry['class']})",
            _shape_text(shapes.get(name)),
            f"{0 if module is None else module.count_params():,}",
            reads.get(name) or "-",
            trained,
        ]
        if expand and hasattr(module, "parts"):
            yield from _rows(module, expand, _entries(module), level + 1)


def _shape_text(shapes: Any) -> str:
    if shapes is None:
        return "?"
    if isinstance(shapes, Mapping):
        return "{" + ", ".join(f"{k}: {_shape_text(v)}" for k, v in shapes.items()) + "}"
    if any(isinstance(s, list | tuple | Mapping) for s in shapes):
        return "[" + ", ".join(map(_shape_text, shapes)) + "]"
    return f"({', '.join(map(str, shapes))})"


def _connections(graph: Graph) -> dict[str, str]:
    """Layer → what all its calls read: layer, call and output."""
    found: dict[str, list[str]] = {}
    outputs: dict[str, str] = {}
    for node in graph.nodes:
        layer, _, call = node.name.partition(":")
        if node.op == "keras.Output":
            outputs[node.name] = _read(next(node.refs()), node.args[1])
        elif node.op not in ("input", "output", "keras.Constant"):
            refs = [r for r in node.refs() if not r.startswith("constant_")]
            found.setdefault(layer if call.isdigit() or not call else node.name, []).extend(
                outputs.get(r, _read(r, 0)) for r in refs
            )
    return {name: ", ".join(reads) for name, reads in found.items()}


def _read(node: str, output: int) -> str:
    layer, _, call = node.partition(":")
    return f"{layer}[{call or 0}][{output}]"


def _is_chain(model: Any) -> bool:
    """Whether each call reads one array and is read once."""
    if len(model._options["inputs"]) != 1 or any(
        node.op == "output" and len([*node.refs()]) != 1 for node in model.graph.nodes
    ):
        return False
    read: list[str] = []
    for node in model.graph.nodes:
        refs = [*node.refs()]
        if node.op != "input" and len(refs) != 1:
            return False
        read += refs
    return len(set(read)) == len(read) and not any(":" in name for name in read)


def _totals(model: Any) -> Iterator[str]:
    trained, fixed = (
        (sum(w.value.size for w in ws), sum(w.value.nbytes for w in ws))
        for ws in (model.trainable_weights, model.non_trainable_weights)
    )
    both = (trained[0] + fixed[0], trained[1] + fixed[1])
    for name, (count, size) in (
        ("Total params", both), ("Trainable params", trained), ("Non-trainable params", fixed),
    ):  # fmt: skip
        yield f" {name}: {count:,} ({_size_text(size)})"


def _size_text(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} TB"
