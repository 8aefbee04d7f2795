"""Statements of TorchScript's text: assignments, settled choices, checks, loops over a length."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lstm_bridge.models.graph import Graph, Node, Ref

if TYPE_CHECKING:
    from lstm_bridge.models.torch.script_frame import Frame

UNFINISHED = object()
"""What statements give that do not return."""

_MOST_STEPS = 256


def follow(frame: Frame, lines: Sequence[ast.stmt]) -> Any:
    """Follow statements, and return what they return, or UNFINISHED.

    Raises:
        UnsupportedError: naming the line that cannot be followed.
    """
    for line in lines:
        frame.reader.count(line, frame)
        made = _statement(frame, line)
        if made is not UNFINISHED:
            return made
    return UNFINISHED


def _statement(frame: Frame, line: ast.stmt) -> Any:
    match line:
        case ast.Assign(targets=[ast.Name(name)], value=value):
            frame.scope[name] = frame.value(value, name)
        case ast.Assign(targets=[ast.Tuple(targets)], value=value):
            names = [t.id for t in targets if isinstance(t, ast.Name)]
            frame.scope |= dict(zip(names, frame.unpacked(value, names), strict=True))
        case ast.AnnAssign(target=ast.Name(name), value=value) if value is not None:
            frame.scope[name] = frame.value(value, name)
        case ast.Return(value=value) if value is not None:
            return frame.value(value, "result")
        case ast.If():
            return _choice(frame, line)
        case ast.For(target=ast.Name(step), iter=ast.Call(func=ast.Name("range"), args=[limit])):
            _loop(frame, line, step, frame.value(limit))
        case ast.Pass():
            pass
        case _:
            raise frame.unknown(line, "control flow that graphs do not have")
    return UNFINISHED


def _choice(frame: Frame, line: ast.If) -> Any:
    """Follow the way that a settled question leads; what only guards an error is checked."""
    answer = frame.value(line.test, "asked")
    if not isinstance(answer, Ref):
        return follow(frame, line.body if answer else line.orelse)
    if not _raises(line.body):
        raise frame.unknown(line, "a question whose answer depends on the inputs")
    allowed = frame.reader.add("operator.not_", "allowed", answer)
    told = f"what {frame.cls.file}:{line.lineno} asks for"
    frame.reader.add("python.assert", "checked", allowed, told)
    return follow(frame, line.orelse)


def _raises(lines: Sequence[ast.stmt]) -> bool:
    last = lines[-1] if lines else None
    return (
        isinstance(last, ast.Expr)
        and isinstance(last.value, ast.Call)
        and isinstance(last.value.func, ast.Attribute)
        and last.value.func.attr == "RaiseException"
    )


def _loop(frame: Frame, line: ast.For, step: str, steps: Any) -> None:
    if isinstance(steps, Ref):
        _loop_over_length(frame, line, step, steps)
        return
    if type(steps) is not int or steps > _MOST_STEPS:
        raise frame.unknown(line, f"{steps!r} steps")
    for k in range(steps):
        frame.scope[step] = k
        if follow(frame, line.body) is not UNFINISHED:
            raise frame.unknown(line, "a return inside of a loop")


def _loop_over_length(frame: Frame, line: ast.For, step: str, steps: Ref) -> None:
    """Add a loop: what is assigned again is carried on, what is appended is collected."""
    reader, outside = frame.reader, frame.scope
    lists = [outside.get(name) for name in _appended(line.body)]
    known = [one for one in lists if isinstance(one, list)]
    if reader.looping or any(known) or len(known) != len(lists):
        raise frame.unknown(line, "a loop in a loop, or one that goes on with a list")
    carried = [n for n in dict.fromkeys(_assigned(line.body)) if n in outside and n != step]
    first = [reader.now(outside[name]) for name in carried]
    if any(isinstance(value, list) for value in first):
        raise frame.unknown(line, "a list that is another one after each step")
    with reader.apart(known) as inside:
        names = [reader.placeholder(name) for name in (step, *carried)]
        inner = frame.within({**outside, **dict(zip((step, *carried), names, strict=True))})
        if follow(inner, line.body) is not UNFINISHED:
            raise frame.unknown(line, "a return inside of a loop")
        collected = [values for _, values in inside.collected]
        if any(len(values) != 1 for values in collected):
            raise frame.unknown(line, "a list that grows by another number than one at a step")
        last = tuple(reader.now(inner.scope[name]) for name in carried)
        told = (last, tuple(values[0] for values in collected))
        body = Graph((*inside.nodes, Node("output", "output", "", (told,))))
    made = reader.add("loop", "loop", steps, first, body=body)
    for k, name in enumerate(carried):
        outside[name] = reader.add("aten.unpacked", name, made, k)
    for k, one in enumerate(known, len(carried)):
        reader.became(one, reader.add("aten.unpacked", "collected", made, k))


def _assigned(lines: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements assign, those in inner ones too."""
    for line in lines:
        for node in ast.walk(line):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _appended(lines: Sequence[ast.stmt]) -> list[str]:
    """Return the names of the lists that statements append to, each once."""
    found = [
        node.args[0].id
        for line in lines
        for node in ast.walk(line)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "append"
        and node.args
        and isinstance(node.args[0], ast.Name)
    ]
    return list(dict.fromkeys(found))
