"""From a file's header to a plan: what becomes a layer, what is passed through, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lstm_bridge.converters import keras, mlx, pytorch_forecasting, torch
from lstm_bridge.converters.layer import Dialect, Found, FoundLayer, Open, Tensors
from lstm_bridge.converters.recipe import sources
from lstm_bridge.errors import RefusedInput, SemanticError, UsageError

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (torch.DIALECT, keras.DIALECT, mlx.DIALECT, pytorch_forecasting.DIALECT)
}
"""Every dialect by name: the only list of them."""

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Plan:
    """The fate of every tensor of a file.

    Args:
        layers: layers that convert.
        passed: source tensor → its name in the output, for tensors of no recurrent layer.
        refused: layer path → why it does not convert.
        claimed: source tensor → path of the refused layer it belongs to.
        left_out: source tensor → why a layer makes it superfluous.
        ignored: tensors left out because the caller asked for it.
        code: layers that are code or another package's → why they are not read.
    """

    layers: tuple[FoundLayer, ...]
    passed: Mapping[str, str]
    refused: Mapping[str, RefusedInput]
    claimed: Mapping[str, str]
    left_out: Mapping[str, str]
    ignored: tuple[str, ...]
    code: Mapping[str, str] = field(default_factory=dict)

    def require(self, file: str) -> None:
        """Raise the first refusal, or one of its own if no layer was found.

        Raises:
            RefusedInput: something in the file does not convert.
        """
        for refusal in self.refused.values():
            raise refusal
        if not self.layers:
            raise SemanticError(
                file,
                expected="at least one LSTM-family layer",
                got=f"{len(self.passed)} tensors of other kinds",
                fix="see what the file holds with: lstm-bridge inspect FILE",
            )

    def only(self, path: str) -> Plan:
        """Return the plan of one layer alone; all other tensors count as ignored.

        Raises:
            UsageError: the file has no layer at that path.
        """
        layers = tuple(layer for layer in self.layers if layer.path == path)
        refused = {p: why for p, why in self.refused.items() if p == path}
        if not layers and not refused:
            known = [layer.path or "(root)" for layer in self.layers] + list(self.refused)
            expected = f"one of {', '.join(known)}" if known else "a file with recurrent layers"
            raise UsageError("prefix", expected=expected, got=repr(path))
        kept = {name for layer in layers for name in _sources(layer)}
        claimed = {name: p for name, p in self.claimed.items() if p == path}
        everything = [n for layer in self.layers for n in _sources(layer)]
        everything += [*self.passed, *self.claimed, *self.left_out, *self.ignored]
        ignored = tuple(n for n in dict.fromkeys(everything) if n not in kept | claimed.keys())
        return Plan(layers, {}, refused, claimed, {}, ignored)


def make_plan(tensors: Tensors, ignore: tuple[str, ...] = ()) -> Plan:
    """Decide the fate of every tensor from the header alone.

    Args:
        tensors: the file's header facts.
        ignore: shell patterns of tensor names to leave out.

    Returns:
        Plan; call its ``require`` before writing anything.
    """
    check_assumptions(tensors.assume)
    ignored = tuple(n for n in tensors.entries if any(fnmatchcase(n, p) for p in ignore))
    entries = {name: e for name, e in tensors.entries.items() if name not in ignored}
    tensors = tensors._replace(entries=entries)
    finds = [dialect.find(tensors) for dialect in DIALECTS.values()]
    layers = [layer for found in finds for layer in found.layers]
    refused = {path: why for found in finds for path, why in found.refused.items()}
    claimed = {name: path for found in finds for name, path in found.claimed.items()}
    for layer in list(layers):
        why = _dtype_refusal(tensors, layer)
        if why is not None:
            layers.remove(layer)
            refused[layer.path] = why
            claimed.update(dict.fromkeys(_sources(layer), layer.path))
    left_out = {name: why for found in finds for name, why in found.left_out.items()}
    used = {name for layer in layers for name in _sources(layer)} | {*claimed, *left_out}
    passed = {name: _passed_name(finds, name) for name in entries if name not in used}
    code = {path: why for found in finds for path, why in found.code.items()}
    plan = Plan(tuple(layers), passed, refused, claimed, left_out, ignored, code)
    _check_collisions(tensors, plan)
    return plan


def check_assumptions(assume: Mapping[str, object]) -> None:
    """Refuse a statement about an option that no dialect leaves open, or of no possible value."""
    known = assumable()
    for key, value in assume.items():
        if key not in known:
            expected = f"one of {', '.join(sorted(known))}"
            raise UsageError("assume", expected=expected, got=repr(key))
        if not known[key].takes(value):
            raise UsageError(f"assume {key}", expected=known[key].expected, got=repr(value))


def assumable() -> dict[str, Open]:
    """Return every option that files of some dialect leave open."""
    return {key: open_ for one in DIALECTS.values() for key, open_ in one.assumable.items()}


def _sources(layer: FoundLayer) -> list[str]:
    return [name for recipe in layer.parameters.values() for name in sources(recipe)]


def _passed_name(finds: list[Found], name: str) -> str:
    for found in finds:
        if found.renamed.get(name, name) != name:
            return found.renamed[name]
    return name


def _dtype_refusal(tensors: Tensors, layer: FoundLayer) -> RefusedInput | None:
    """Refuse integers, and dtypes mixed within a layer."""
    dtypes = {name: tensors.entries[name].dtype for name in _sources(layer)}
    first = next(iter(dtypes.values()))
    for name, dtype in dtypes.items():
        if dtype not in _FLOATS:
            return tensors.refuse(name, f"one of {', '.join(_FLOATS)}", dtype, "weights are floats")
        if dtype != first:
            return tensors.refuse(
                name, f"{first}, as the rest of its layer", dtype, "cast the layer to one dtype"
            )
    return None


def _check_collisions(tensors: Tensors, plan: Plan) -> None:
    """Refuse two arrays under one name in the output."""
    taken: dict[str, str] = {}
    targets = [(layer.name_of(p), layer.path) for layer in plan.layers for p in layer.parameters]
    for target, origin in [*targets, *((t, s) for s, t in plan.passed.items())]:
        if not target.isprintable():
            raise tensors.refuse(
                origin,
                "a name that can be printed",
                "control or private characters, or half a surrogate pair",
                "rename it, or leave it out with --ignore",
            )
        if target in taken:
            raise tensors.refuse(
                origin,
                "an output name of its own",
                f"{target!r}, taken by {taken[target]!r}",
                "leave one of them out with --ignore",
            )
        taken[target] = origin
