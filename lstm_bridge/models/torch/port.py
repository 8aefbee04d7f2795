"""A torch module becomes a running MLX model: ``lstm_bridge.port``.

torch is imported inside functions only, and only to trace.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import ArgumentTypeError, UnsupportedError, UsageError
from lstm_bridge.models.graph import Graph
from lstm_bridge.models.torch.graph import Translator
from lstm_bridge.models.torch.layers import kind_of, leaves, make_layer, options_of, to_mlx
from lstm_bridge.models.torch.merge import in_both_modes
from lstm_bridge.models.torch.model import TorchModel
from lstm_bridge.models.torch.reparametrized import with_plain_weights
from lstm_bridge.models.torch.script import port_script
from lstm_bridge.models.torch.tracer import Constants, Inputs
from lstm_bridge.models.torch.ways import graph_of
from lstm_bridge.models.tree import Ported, hang
from lstm_bridge.models.whole import Part


class PartlyPorted(Ported):
    """The tree of what could be ported of a module, each sub-module running by itself.

    Args:
        layers: path → what runs there.
        unported: path of a sub-module that did not port → why, with the line of code.
    """

    def __init__(self, layers: Mapping[str, nn.Module], unported: Mapping[str, str]) -> None:
        super().__init__(layers)
        object.__setattr__(self, "unported", dict(unported))


def port(module: Any, example_inputs: Any = None, *, partial: bool = False) -> Any:
    """Turn a torch module into an MLX model with the same sub-module and parameter names.

    Args:
        module: a torch.nn.Module: Lightning modules and pytorch-forecasting's networks too. What
            its forward does must not depend on the values or sizes of its inputs. Also a recorded
            TorchScript module (``torch.jit.trace``), or the path of its file, for which torch
            need not be installed.
        example_inputs: a tuple of positional or a dictionary of named arguments. Arguments with
            defaults become inputs of the model when they are given here as tensors, and take
            their given values when those are plain; without an example they keep their defaults.
            Default: None.
        partial: where the whole cannot be traced, port the sub-modules that can. Default: False.

    Returns:
        A model that is called like the module, in its mode; the layer itself for a single layer.
        With ``partial``, and only where the whole cannot be ported, a tree with ``.unported``.

    Raises:
        ArgumentTypeError: it is no torch module.
        UnsupportedError: naming the function, layer or line that stands in the way.
    """
    if isinstance(module, str | PathLike):
        return port_script(module)
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return _recorded(module)
    if not isinstance(module, torch.nn.Module):
        raise ArgumentTypeError(
            "port module", expected="a torch.nn.Module", got=type(module).__name__
        )
    module, normed = with_plain_weights(module)
    try:
        return _whole(module, _inputs(module, example_inputs), normed)
    except UnsupportedError as error:
        if not partial:
            raise
        return _partly(module, error)


def _recorded(module: Any) -> TorchModel:
    """Port a recorded module as what its file would be."""
    import torch

    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit as a whole
        file = Path(folder) / "module.pt"
        torch.jit.save(module, str(file))
        return port_script(file)


def _whole(module: Any, inputs: Inputs, normed: Mapping[str, str] | None = None) -> nn.Module:
    kind = kind_of(module)
    if kind is not None:
        return make_layer(module, kind, options_of(module, kind), type(module).__name__)
    kept = {path: (layer, kind) for path, layer, kind in leaves(module)}
    names = _Names(module, kept)
    constants = Constants(module)
    modules = dict(module.named_modules())

    def translate(traced: Any) -> Graph:
        return Translator(modules, names.tied).translate(traced)

    evaluating = graph_of(module, inputs, False, constants, translate)
    try:
        training: Any = graph_of(module, inputs, True, constants, translate)
    except UnsupportedError as error:
        training = error
    merged = in_both_modes(evaluating, training)
    parts = [
        Part(path, kind, options := options_of(layer, kind), make_layer(layer, kind, options, path))
        for path, (layer, kind) in kept.items()
        if path not in names.tied
    ]
    covered = tuple(f"{part.path}." for part in parts)
    arrays = {
        name: to_mlx(tensor, name)
        for name, tensor in names.kept.items()
        if not name.startswith(covered)
    }
    read = {node.target for node in merged.graph.walk() if node.op == "parameter"}
    _check_tables(kept, read)
    used = {name: to_mlx(t, name) for name, t in constants.found.items() if name in read}
    options = names.options(tuple(used)) | ({"folded": dict(normed)} if normed else {})
    model = TorchModel([*parts, *merged.parts], merged.graph, arrays | used, options)
    model.train(module.training)
    for part in parts:
        part.module.train(kept[part.path][0].training)
    mx.eval(model.parameters())
    return model


def _check_tables(kept: Mapping[str, Any], read: set[str]) -> None:
    """Refuse that anything else reads a table whose rows torch changes when they are looked up."""
    for path, (layer, _) in kept.items():
        if getattr(layer, "max_norm", None) is not None and f"{path}.weight" in read:
            raise UnsupportedError(
                f"port {path!r}",
                expected="max_norm in a table that nothing else reads",
                got="one that forward, or a layer tied to it, reads too",
                fix="record the module with torch.jit.trace, and port its file",
            )


class _Names:
    """The names of a module's parameters and buffers, and which of them name one tensor."""

    def __init__(self, module: Any, kept: Mapping[str, Any]) -> None:
        self.module = module
        self.parameters = dict(module.named_parameters())
        self.kept = self.parameters | dict(module.named_buffers())
        first = {id(tensor): name for name, tensor in reversed(self.kept.items())}
        own = dict(module.named_parameters(remove_duplicate=False))
        own |= dict(module.named_buffers(remove_duplicate=False))
        self.aliases = {n: first[id(t)] for n, t in own.items() if first[id(t)] != n}
        self.tied = {path: self._arrays(path) for path in kept if self._is_tied(path)}
        for path in self.tied:
            if type(kept[path][0]).__name__ not in ("Linear", "Embedding"):
                raise UnsupportedError(
                    f"port {path!r}",
                    expected="tied weights of Linear and Embedding only",
                    got=f"those of {type(kept[path][0]).__name__}",
                    fix="give it weights of its own",
                )

    def _is_tied(self, path: str) -> bool:
        return any(alias.rpartition(".")[0] == path for alias in self.aliases)

    def _arrays(self, path: str) -> dict[str, str]:
        layer = self.module.get_submodule(path)
        own = [n for n, tensor in layer.named_parameters() if tensor is not None]
        return {n: self.aliases.get(f"{path}.{n}", f"{path}.{n}") for n in own}

    def options(self, constants: Sequence[str]) -> dict[str, Any]:
        """Return what a TorchModel has to know of the names."""
        saved = self.module.state_dict().keys()
        buffers = [name for name in self.kept if name not in self.parameters]
        frozen = [name for name, p in self.parameters.items() if not p.requires_grad]
        return {
            "aliases": {a: name for a, name in self.aliases.items() if a in saved},
            "buffers": buffers,
            "constants": [*constants, *(name for name in buffers if name not in saved)],
            "frozen": frozen,
        }


def _inputs(module: Any, example_inputs: Any) -> Inputs:
    """Return how forward is traced: its constant, its optional and its other arguments."""
    signature = inspect.signature(type(module).forward).parameters
    parameters = list(signature.values())[1:]
    examples = _by_name(parameters, example_inputs)
    given, optional = {}, []
    for parameter in parameters:
        name, default = parameter.name, parameter.default
        if name in examples and _is_plain(examples[name]):
            given[name] = examples.pop(name)
        elif name in examples:
            optional += [name] if default is None else []
        elif default is None and len(optional) < _MOST_OPTIONAL:
            optional.append(name)
        elif default is not parameter.empty:
            given[name] = _checked_default(default)
    return Inputs(given, tuple(optional), examples)


_MOST_OPTIONAL = 4
"""Optional arguments that become inputs without being in the example: each doubles the work."""


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _checked_default(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        raise UsageError("port forward", expected="plain defaults", got="a tensor as a default")
    return value


def _by_name(parameters: Sequence[inspect.Parameter], examples: Any) -> dict[str, Any]:
    """Return examples by argument; those of ``*args`` as ``*args_0``, ``*args_1``, …"""
    names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if examples is None:
        return {}
    if isinstance(examples, Mapping):
        found = dict(examples)
    else:
        many = examples if type(examples) in (tuple, list) else (examples,)
        rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        if len(many) > len(names) and rest is None:
            raise UsageError(
                "port example_inputs", expected=f"at most {len(names)}", got=str(len(many))
            )
        found = dict(zip(names, many, strict=False))
        return found | {f"*{rest}_{k}": v for k, v in enumerate(many[len(names) :])}
    unknown = [name for name in found if name not in names]
    if unknown:
        raise UsageError(
            "port example_inputs", expected=f"arguments {', '.join(names)}", got=unknown[0]
        )
    return found


def _partly(module: Any, why: UnsupportedError) -> PartlyPorted:
    unported = {"": str(why)}
    running: dict[str, nn.Module] = {}
    for path, child in _children(module):
        running |= _below(path, child, unported)
    tree = PartlyPorted(running, unported)
    covered = tuple(f"{path}." for path in running)
    loose = {n: t for n, t in module.state_dict().items() if not n.startswith(covered)}
    hang(tree, [*running.items(), *((n, to_mlx(t, n)) for n, t in loose.items())])
    return tree


def _below(path: str, module: Any, unported: dict[str, str]) -> dict[str, nn.Module]:
    """Port a sub-module, or what can be ported of it."""
    if _is_container(module):
        found: dict[str, nn.Module] = {}
        for name, child in _children(module):
            found |= _below(f"{path}.{name}", child, unported)
        return found
    try:
        return {path: _whole(module, _inputs(module, None))}
    except UnsupportedError as error:
        unported[path] = str(error)
    found = {}
    for name, child in _children(module):
        found |= _below(f"{path}.{name}", child, unported)
    return found


def _children(module: Any) -> Iterator[tuple[str, Any]]:
    return iter(module.named_children())


def _is_container(module: Any) -> bool:
    return type(module).__name__ in ("ModuleList", "ModuleDict")
