"""The command line: ``lstm-bridge inspect | convert | verify | bench``, over the public API."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

import lstm_bridge
from lstm_bridge.errors import printable

if TYPE_CHECKING:
    from rich.table import Table

    from lstm_bridge.models.account import Conversion
    from lstm_bridge.models.convert_tree import TreeReport
    from lstm_bridge.models.inspect import Inspection

P = ParamSpec("P")


def _one_line_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn every error raised on purpose into one line and its exit status."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except lstm_bridge.BridgeError as error:
            click.echo(f"error{error}", err=True)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("error: interrupted; what was not finished is not written", err=True)
            sys.exit(_INTERRUPTED)
        except BrokenPipeError:
            # Nobody reads on, as behind "| head": what Python still holds has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_UNREAD)

    return run


_INTERRUPTED = 130  # the shell's number for a process that SIGINT ended
_UNREAD = 141  # and for one that SIGPIPE did


def _assumptions(_: click.Context, __: click.Parameter, pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs; true, false and numbers become what they say."""
    stated: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"expected KEY=VALUE, got {pair!r}")
        try:
            stated[key] = json.loads(value.lower())
        except ValueError:
            stated[key] = value
    return stated


def _reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which a caller says what a source file does not."""
    for option in (
        click.option("--config", metavar="JSON", help="Keras architecture of a weights-only file."),
        click.option(
            "--prefix", metavar="PATH", help="Convert this one layer, leave out the rest."
        ),
        click.option("--ignore", multiple=True, metavar="PATTERN", help="Leave tensors out."),
        click.option(
            "--assume",
            multiple=True,
            metavar="KEY=VALUE",
            callback=_assumptions,
            help="State what the file does not hold, e.g. batch_first=true.",
        ),
    ):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(lstm_bridge.__version__, package_name="lstm-bridge")
def main() -> None:
    """Carry LSTM-family models from PyTorch and Keras to Apple's MLX."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name the terminal cannot spell


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@_reading_options
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@_one_line_errors
def inspect(file: Path, as_json: bool, **choices: Any) -> None:
    """Say what FILE holds and what of it converts, from its headers alone."""
    found = lstm_bridge.inspect(file, **choices)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
    else:
        _show(*_inspection_tables(found))


@main.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("target", metavar="DST", type=click.Path(path_type=Path))
@click.option(
    "--layout",
    default="source",
    show_default=True,
    metavar="source|mlx",
    help="Names and layout to write: the source framework's, or stock mlx.nn.LSTM's.",
)
@click.option("--to", metavar="torch|keras|mlx", help="Write one file for that framework.")
@click.option(
    "--quantize",
    type=int,
    metavar="8|4",
    help="Pack Linear, Dense and Embedding layers of a whole model to so many bits.",
)
@click.option("--force", is_flag=True, help="Replace a converted model that stands at DST.")
@_reading_options
@click.option("--allow-downcast", is_flag=True, help="Round float64 to float32.")
@click.option("--allow-nonfinite", is_flag=True, help="Take NaN and infinity as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as JSON.")
@_one_line_errors
def convert(source: Path, target: Path, as_json: bool, **options: Any) -> None:
    """Convert SRC to DST: a folder that lstm_bridge runs, or with --to another framework's file.

    A folder of checkpoints is converted one by one; exit 3 says that some were refused.
    """
    from lstm_bridge.models.convert_tree import is_tree

    if is_tree(source):
        _convert_tree(source, target, as_json, options)
        return
    if as_json:
        account = lstm_bridge.convert(source, target, **options)
        click.echo(json.dumps(account.to_json(), indent=1))
        return
    with _progress_bar() as progress:
        task = progress.add_task(f"converting {printable(source.name)}", total=None)
        account = lstm_bridge.convert(
            source,
            target,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            **options,
        )
    _show(*_conversion_tables(account))
    click.echo(f"wrote {printable(target)}")


def _convert_tree(source: Path, target: Path, as_json: bool, options: dict[str, Any]) -> None:
    """Convert a folder of checkpoints, showing the one in hand; exit as its report says."""
    with _progress_bar() as progress:
        task = progress.add_task(f"converting {printable(source.name)}", total=None)

        def show(name: str, done: int, total: int) -> None:
            progress.update(task, description=printable(name), completed=done, total=total)

        report = lstm_bridge.convert_tree(source, target, progress=show, **options)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        _show(_tree_table(report))
        counts = (f"{len(report.of(fate))} {fate}" for fate in ("converted", "refused", "skipped"))
        click.echo(", ".join(counts))
    sys.exit(report.exit_status)


@main.command()
@click.argument("source", metavar="SRC", type=click.Path(path_type=Path))
@click.argument("converted", metavar="DST", type=click.Path(path_type=Path))
@_reading_options
@click.option("--inputs", metavar="NPZ", type=click.Path(path_type=Path), help="Run on these.")
@click.option("--gradients", is_flag=True, help="Compare gradients too.")
@click.option(
    "--report", "page", metavar="HTML", type=click.Path(path_type=Path), help="Write a web page."
)
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@_one_line_errors
def verify(
    source: Path,
    converted: Path,
    page: Path | None,
    plot: Path | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Judge DST, a folder or a file, against SRC and the float64 oracle; exit 1 if it fails."""
    report = lstm_bridge.verify(source, converted, **choices)
    if page is not None:
        report.to_html(page)
    if plot is not None:
        report.plot(plot)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1))
    else:
        _show(report.to_table())
    sys.exit(0 if report.passed else 1)


@main.command()
@click.option("--quick", is_flag=True, help="Five small shapes, in under a minute.")
@click.option("--plot", metavar="FILE", type=click.Path(path_type=Path), help="Draw the ratios.")
@click.option(
    "--json", "as_json", metavar="FILE", type=click.Path(path_type=Path), help="Write all figures."
)
@click.option("--composed", is_flag=True, help="Without the fused kernel, beside MLX's own layer.")
@click.option(
    "--blas",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A shared library with cblas_sgemm, in the place of MLX's BLAS on Linux.",
)
@_one_line_errors
def bench(
    quick: bool, plot: Path | None, as_json: Path | None, composed: bool, blas: Path | None
) -> None:
    """Time our LSTM against MLX's, torch's and Keras's, taking turns on this machine."""
    if blas is not None:
        from lstm_bridge.bench.blas import preload

        preload(blas)  # before anything here imports MLX
    from lstm_bridge.bench.run import bench as run_benchmark

    with _progress_bar() as progress:
        task = progress.add_task("timing", total=None)
        report = run_benchmark(
            quick,
            lambda done, total: progress.update(task, completed=done, total=total),
            composed=composed,
            blas=None if blas is None else blas.name,
        )
    if plot is not None:
        report.plot(plot)
    if as_json is not None:
        as_json.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    _show(*(report.to_table(mode) for mode in ("forward", "train", "stream")))
    for line in report.to_lines():
        click.echo(line)


@main.command()
@_one_line_errors
def info() -> None:
    """Say what this installation runs on, and whether its fused CPU kernel serves."""
    click.echo(json.dumps(lstm_bridge.config(), indent=1))


_PIPE_WIDTH = 160


def _show(*tables: Table) -> None:
    from rich.console import Console

    class Shown(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    console = Shown()
    if not console.is_terminal:
        console = Shown(width=_PIPE_WIDTH)  # a pipe has no width of its own: keep names whole
    for table in tables:
        console.print(table)


def _progress_bar() -> Any:
    """A bar on standard error that goes away when done: quick work leaves no trace of it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(_visible(title)), title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _fill(table: Table, *cells: str | Iterable[str]) -> None:
    """Add a row; what strangers named is shown escaped, never interpreted."""
    from rich.markup import escape

    texts = ([cell] if isinstance(cell, str) else cell for cell in cells)
    table.add_row(*(escape("\n".join(map(_visible, lines))) for lines in texts))


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _inspection_tables(found: Inspection) -> list[Table]:
    wrote = f", {found.framework} {found.version}".rstrip() if found.framework else ""
    title = f"{found.file}: {found.format}{wrote}"
    layers = _table(title, "layer", "what it is", "notes")
    for layer in found.layers:
        _fill(layers, layer.path or "(root)", _call(layer.kind, layer.options), layer.rules)
    for path, why in found.refused.items():
        _fill(layers, path, "does not convert", why)
    tensors = _table("tensors", "name", "shape", "dtype", "fate")
    for tensor in found.tensors:
        _fill(tensors, tensor.name, str(list(tensor.shape)), tensor.dtype, tensor.fate)
    return [layers, tensors, *_left_out_table(found.left_out)]


def _conversion_tables(account: Conversion) -> list[Table]:
    whole = account.description
    title = "a whole model" if whole else f"layers, layout {account.layout}"
    layers = _table(title, "layer", "what it is", "notes")
    for entry in whole.get("modules", account.layers):
        notes = _notes_on(entry["path"], whole) if whole else entry["rules"]
        _fill(layers, entry["path"] or "(root)", _call(entry["class"], entry["options"]), notes)
    tensors = _table("tensors", "to", "from", "how", "shape", "dtype", "sha256")
    for name, fate in account.tensors.items():
        origin = "the same name" if fate.sources == (name,) else ", ".join(fate.sources)
        digest = fate.sha256[:12]
        _fill(tensors, name, origin, fate.how, str(list(fate.shape)), fate.dtype, digest)
    ignored = dict.fromkeys(account.ignored, "ignored, as asked")
    return [layers, tensors, *_left_out_table({**account.left_out, **ignored})]


def _notes_on(path: str, whole: dict[str, Any]) -> list[str]:
    """Say what quantization did to a layer of a whole model, and to the layers in it."""
    packed = {one["path"]: f"{one['bits']} bits in groups of {one['group_size']}"
              for one in whole["quantized"]}  # fmt: skip
    kept = {place: f"not quantized: {why}" for place, why in whole.get("unquantized", {}).items()}
    return [
        f"{place.removeprefix(path).lstrip('.')}: {note}" if place != path else note
        for place, note in {**packed, **kept}.items()
        if f"{place}.".startswith(f"{path}.")
    ]


def _tree_table(report: TreeReport) -> Table:
    table = _table(f"{report.source}: every file", "file", "fate", "what, or why")
    for one in report.outcomes:
        _fill(table, one.path, one.fate, one.detail)
    return table


def _left_out_table(left_out: dict[str, str]) -> list[Table]:
    if not left_out:
        return []
    table = _table("left out", "name", "why")
    for name, why in left_out.items():
        _fill(table, name, why)
    return [table]


def _call(kind: str, options: dict[str, Any]) -> str:
    """Spell a layer as the call that makes it, a nested layer by its class alone."""
    shown = (f"{key}={_value(value)}" for key, value in options.items())
    return f"{kind}({', '.join(shown)})"


def _value(value: Any) -> str:
    is_layer = isinstance(value, dict) and "class_name" in value
    return str(value["class_name"]) if is_layer else repr(value)


if __name__ == "__main__":
    main()
