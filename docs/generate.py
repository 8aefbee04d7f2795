"""Fills the generated blocks of README.md and docs/*.md from the code.

A block lies between ``<!-- generated:NAME -->`` and ``<!-- end -->``; NAME is a key of ``BLOCKS``.
``make docs`` runs this; a test fails when a committed block is stale.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from typing import Any

import mlx.nn

from lstm_bridge import checkpoints
from lstm_bridge import errors as tree
from lstm_bridge.bench.run import at_most, times
from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.converters.targets import TARGETS
from lstm_bridge.core import lstm
from lstm_bridge.equivalence.mistakes import MISTAKES
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- generated:([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][
    "importlinter"
]["contracts"]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; a ``|`` inside a cell is escaped."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def code(text: object) -> str:
    """Return ``text`` in Markdown's code font."""
    return f"`{text}`"


def equations() -> str:
    """Return the LSTM's equations as the code that computes them."""
    return "\n".join(
        ["```py", *_undocumented(lstm.step), "", "", *_undocumented(lstm.gates), "```"]
    )


def _undocumented(function: Callable[..., Any]) -> list[str]:
    """Return a function's source lines without its docstring."""
    lines = inspect.getsource(function).splitlines()
    described = ast.parse("\n".join(lines)).body[0].body[0]
    del lines[described.lineno - 1 : described.end_lineno]
    return lines


def performance() -> str:
    """Return what the last ``make bench`` measured, and on what."""
    return _measured("performance.json")


def performance_composed() -> str:
    """Return what the last ``bench --composed`` measured, and on what."""
    return _measured("performance-composed.json")


def _measured(name: str) -> str:
    report = json.loads((ROOT / "docs" / name).read_text(encoding="utf-8"))
    machine, limits = report["machine"], report["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"Measured by `{report['command']}` on {machine['cores']} cores of {machine['processor']} "
        f"({machine['system']}), load {machine['load']:.1f}, MLX on {machine['device']}, Python "
        f"{machine['python']}: {versions}. In the same run matrices were multiplied at "
        f"{limits['matmul_gflops']:.0f} GFLOP/s"
        + (f" and read at {limits['read_gbytes']:.1f} GB/s" if "read_gbytes" in limits else "")
        + ". Median milliseconds, of fifty steps where streaming; "
        "in brackets, how many times as long as lstm_bridge."
    ]
    for mode in dict.fromkeys(case["mode"] for case in report["cases"]):
        cases = [case for case in report["cases"] if case["mode"] == mode]
        peers = list(dict.fromkeys(name for case in cases for name in case["seconds"]))
        rows = [
            [case["shape"], *(_timing(case["seconds"], peer) for peer in peers)] for case in cases
        ]
        lines += ["", table([f"{mode}: N,L,D,H", *map(code, peers)], rows)]
    if shares := _shares(report["cases"]):
        lines += ["", shares]
    if startup := report.get("startup"):
        rows = [[what, f"{1e3 * seconds:.0f}"] for what, seconds in startup.items()]
        lines += ["", table(["start-up", "ms"], rows)]
    return "\n".join(lines)


def _shares(cases: list[dict[str, Any]]) -> str:
    """What part of the machine's limits is reached, and how much longer peers take than these."""
    found = [
        ([case["shape"], limit, f"{share:.0%}"], at_most(_medians(case), share))
        for case in cases
        for limit, share in case["share_of_limit"].items()
    ]
    peers = list(dict.fromkeys(name for _, most in found for name in most))
    rows = [
        [*begin, *(times(most[name]) if name in most else "–" for name in peers)]
        for begin, most in found
    ]
    head = (f"at most, of {code(name)}" for name in peers)
    return table(["forward: N,L,D,H", "limit", "reached", *head], rows) if rows else ""


def _medians(case: dict[str, Any]) -> dict[str, float]:
    return {name: timing["median"] for name, timing in case["seconds"].items()}


def _timing(seconds: dict[str, dict[str, float]], peer: str) -> str:
    if peer not in seconds:
        return "–"
    took, ours = seconds[peer]["median"], seconds["lstm_bridge"]["median"]
    return f"{1e3 * took:.3g}" + ("" if peer == "lstm_bridge" else f" ({times(took / ours)})")


def errors() -> str:
    """Return the tree of errors, as the module that defines them draws it."""
    drawing = inspect.cleandoc(tree.__doc__ or "").partition("::\n\n")[2]
    lines = [line[4:] for line in drawing.splitlines() if line.startswith("    ")]
    return "\n".join(["```text", *lines, "```"])


def contracts() -> str:
    """Return the import contracts of pyproject.toml as a table."""
    return table(["contract", "for", "rule"], ([c["name"], *_rule(c)] for c in CONTRACTS))


def _rule(contract: dict[str, Any]) -> tuple[str, str]:
    if contract["type"] == "layers":
        layers = (" or ".join(map(code, layer.split(" | "))) for layer in contract["layers"])
        return "the whole package", "imports point down only: " + ", then ".join(layers)
    never = ", ".join(map(code, contract["forbidden_modules"]))
    return ", ".join(map(code, contract["source_modules"])), f"never imports {never}"


def dialects() -> str:
    """Return every dialect's parameters, the canonical slot of each and the way between."""
    rows = [
        [dialect.name, code(slot.parameter), code(slot.canonical), slot.operation]
        for dialect in DIALECTS.values()
        for slot in dialect.slots
    ]
    return table(["dialect", "parameter", "canonical slot", "way"], rows)


def dialect_classes() -> str:
    """Return the classes that each dialect's layers become."""
    rows = ([d.name, ", ".join(map(code, d.kinds))] for d in DIALECTS.values())
    return table(["dialect", "layers found in a file become"], rows)


def formats() -> str:
    """Return the container formats that are read, by their usual file names."""
    rows = (
        [f.format, ", ".join(code(f"*{ending}") for ending in f.extensions)]
        for f in checkpoints.formats()
    )
    return table(["format", "usual names"], rows)


def targets() -> str:
    """Return the frameworks that files are written for, and the endings of those files."""
    rows = (
        [code(f"--to {name}"), ", ".join(code(suffix) for suffix in target.suffixes)]
        for name, target in TARGETS.items()
    )
    return table(["option", "endings"], rows)


def bad_inputs() -> str:
    """Return how many bad inputs the tests try, as a test keeps the count of them."""
    counts = json.loads((ROOT / "tests/bad_inputs/counts.json").read_text(encoding="utf-8"))
    files, total = counts.pop("files"), counts.pop("bytes")
    rows = [[f"cases: {what}", str(count)] for what, count in counts.items()]
    rows.append([f"truncations: every length of {files} small files", f"about {total:,}"])
    rows.append([f"flips: a bit of every byte of {files} small files", f"about {total:,}"])
    return table(["bad inputs", "tried"], rows)


def front_end_classes() -> dict[str, type]:
    """Return the public layer classes of every front-end, by the shortest path to import them."""
    packages = next(c["source_modules"] for c in CONTRACTS if "Front-ends" in c["name"])
    found: dict[type, str] = {}
    for module in (module for package in packages for module in _modules(package)):
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, mlx.nn.Module):
                path = f"{module.__name__}.{name}"
                found[value] = min(found.get(value, path), path, key=lambda p: (p.count("."), p))
    return {path: layer for layer, path in sorted(found.items(), key=lambda item: item[1])}


def _modules(package: str) -> Iterator[ModuleType]:
    module = import_module(package)
    yield module
    for found in walk_packages(module.__path__, package + "."):
        yield import_module(found.name)


def arguments() -> str:
    """Return one table per front-end class: each argument, its default, and how it is honoured."""
    tables = ((path, _argument_rows(layer)) for path, layer in front_end_classes().items())
    return "\n\n".join(
        f"### `{path}`\n\n{table(['argument', 'default', 'here'], rows)}"
        for path, rows in tables
        if rows
    )


def _argument_rows(layer: type) -> list[list[str]]:
    """Rows of the constructor's arguments, then of noted ones that a call or ``**kwargs`` takes."""
    notes = dict(getattr(layer, "ARGUMENT_NOTES", {}))
    rows = []
    for name, parameter in inspect.signature(layer).parameters.items():
        required = parameter.default is parameter.empty
        default = "" if required else code(repr(parameter.default))
        rows.append([code(_spelled(parameter)), default, notes.pop(name, "same")])
    return rows + [[code(name), "", note] for name, note in notes.items()]


def _spelled(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    return stars.get(parameter.kind, "") + parameter.name


def torch_functions() -> str:
    """Return the torch functions and methods that a ported model may use, in groups."""
    groups: dict[str, list[str]] = {}
    titles = {"torch": "torch and Tensor", "functional": "torch.nn.functional"}
    titles |= {"torch.rnn": "torch.nn.utils.rnn", "torch.linalg": "torch.linalg"}
    for full in TORCH_OPERATIONS:
        place, _, name = full.rpartition(".")
        if place in titles:
            groups.setdefault(titles[place], []).append(name)
    rows = ([code(title), ", ".join(map(code, sorted(names)))] for title, names in groups.items())
    return table(["of", "functions and methods"], rows)


def front_ends() -> str:
    """Return the front-end classes by the package to import them from."""
    packages: dict[str, list[str]] = {}
    for path in front_end_classes():
        package, _, name = path.rpartition(".")
        packages.setdefault(package, []).append(code(name))
    rows = ([code(package), ", ".join(names)] for package, names in sorted(packages.items()))
    return table(["import from", "classes"], rows)


def classes() -> str:
    """Return the classes that a saved model may be made of, by package."""
    from importlib import import_module

    from lstm_bridge.models.classes import FRONT_ENDS, find_class

    rows = []
    for package in FRONT_ENDS:
        names = sorted(import_module(f"lstm_bridge.{package}").__all__)
        made = [code(name) for name in names if find_class(f"{package}.{name}") is not None]
        rows.append([code(package), ", ".join(made)])
    return table(["package", "classes"], rows)


def mistakes_caught() -> str:
    """Return the mutation proof: mistakes made on purpose, and how many of them were caught."""
    from lstm_bridge.equivalence.proof.mutations import Outcome, in_conversion, in_front_end
    from lstm_bridge.equivalence.proof.pairs import PAIRS
    from lstm_bridge.equivalence.proof.sources import TARGETS

    def cell(found: list[Outcome]) -> str:
        return f"{sum(o.caught for o in found)}/{len(found)}" if found else "–"

    here = {pair.label: list(in_front_end(pair, limit=6)) for pair in PAIRS}
    away = {(p.label, to): list(in_conversion(p, to)) for p in PAIRS for to in TARGETS}
    every = [o for found in (*here.values(), *away.values()) for o in found]
    in_front_ends = (
        [label, *(cell([o for o in found if o.mutant.family == f]) for f in MISTAKES), cell(found)]
        for label, found in here.items()
    )
    in_conversions = (
        [pair.label, *(cell(away[pair.label, to]) for to in TARGETS)]
        for pair in PAIRS
        if any(away[pair.label, to] for to in TARGETS)
    )
    share = 100 * sum(o.caught for o in every) / len(every)
    named = cell([o._replace(caught=o.named) for found in here.values() for o in found])
    return "\n\n".join(
        (
            f"**{len(every)} mistakes made, {share:.4g} % caught**; of those in front-ends "
            f"{named} were also named by the diagnosis.",
            table(["mistake in the front-end", *MISTAKES, "all"], in_front_ends),
            table(["mistake in a conversion of", *(f"to {t}" for t in TARGETS)], in_conversions),
        )
    )


def extremes() -> str:
    """Return what the extremes do to every class, and the differences that stay."""
    from lstm_bridge.equivalence.proof.extremes import COLUMNS, EXTREMES, KNOWN, applies, run

    def cell(pair: Any, extreme: Any) -> str:
        known = KNOWN.get((extreme.label, pair.label))
        if not applies(pair, extreme):
            return "–"
        return str(run(pair, extreme)) if known is None else "differs, see below"

    rows = ([e.label, *(cell(p, e) for p in COLUMNS)] for e in EXTREMES)
    notes = (f"{label}, {extreme}: {why}." for (extreme, label), why in KNOWN.items())
    grid = table(["extreme", *(p.label for p in COLUMNS)], rows)
    return "\n\n".join((grid, *notes))


BLOCKS: dict[str, Callable[[], str]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        equations,
        errors,
        contracts,
        dialects,
        dialect_classes,
        formats,
        bad_inputs,
        targets,
        arguments,
        front_ends,
        classes,
        torch_functions,
        performance,
        performance_composed,
        mistakes_caught,
        extremes,
    )
}


def pages() -> list[Path]:
    """Return the pages that may hold generated blocks."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str) -> str:
    """Return ``text`` with every generated block made anew."""
    return MARKED.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}\n{m[3]}", text)


def main() -> None:
    """Rewrite the pages whose blocks are stale, and say which."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"filled {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
