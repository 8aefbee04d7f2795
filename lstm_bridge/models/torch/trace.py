"""Tracing a torch module with torch.fx, the supported layers kept whole.

torch is imported inside functions only.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from lstm_bridge.errors import BridgeError, UnsupportedError
from lstm_bridge.models.torch.layers import kind_of, refused_kind
from lstm_bridge.models.torch.source import line_of_error, line_of_trace

CREATED = (
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "tensor",
    "zeros",
)  # fmt: skip
"""torch's functions that take sizes: torch.fx does not record them by itself."""

_IN_PLACE = (
    "iadd",
    "isub",
    "imul",
    "itruediv",
    "ifloordiv",
    "imod",
    "ipow",
    "iand",
    "ior",
    "ixor",
    "setitem",
)


def torch_folder() -> str:
    """Return the folder of the torch package, whose lines are not the user's."""
    import torch

    return str(Path(torch.__file__).parent)


def trace(root: Any, given: Mapping[str, Any], training: bool) -> tuple[Any, dict[str, Any]]:
    """Trace a module's forward.

    Args:
        root: the torch module.
        given: argument → its constant value; all others become inputs of the graph.
        training: the mode in which ``self.training`` is read.

    Returns:
        The torch.fx graph, and the constants that it reads by name.

    Raises:
        UnsupportedError: naming the line of the user's code that cannot be traced.
    """
    tracer = _tracer_class()(given)
    with _mode(root, training), _counted(root, tracer), _kept(root):
        try:
            return tracer.trace(root), tracer.constants
        except BridgeError:
            raise
        except Exception as error:
            raise UnsupportedError(
                f"port {type(root).__name__} at {line_of_error(error, torch_folder())}",
                expected="lines that do the same for every input",
                got=" ".join(str(error).split())[:200] or type(error).__name__,
                fix="move it out of forward, or port with partial=True",
            ) from error


class _Bridging:
    """What a torch.fx tracer does otherwise here; mixed into it where torch is imported."""

    proxy_buffer_attributes = True
    record_stack_traces = True

    def __init__(self, given: Mapping[str, Any]) -> None:
        import torch
        from torch.nn.utils import rnn

        functions = [getattr(torch, name) for name in CREATED]
        functions += [getattr(rnn, name) for name in rnn.__all__ if name[0].islower()]
        base: Any = super()
        base.__init__(autowrap_modules=(math,), autowrap_functions=tuple(functions))
        self._autowrap_search: Any = [math, torch, rnn]
        self.root: Any = None
        self.given = given
        self.constants: dict[str, Any] = {}
        self.tensors: dict[int, str] = {}

    def proxy(self, node: Any) -> Any:
        return _value_class()(node, self)

    def is_leaf_module(self, module: Any, path: str) -> bool:
        if kind_of(module) is not None:
            return True
        if refused_kind(module):
            raise UnsupportedError(
                f"port {path or 'module'!r} at {_current_line()}",
                expected="a layer with a front-end in lstm_bridge.torch.nn, as it was made",
                got=f"torch.nn.{type(module).__name__}",
                fix="port with partial=True, or replace it",
            )
        return False

    def to_bool(self, value: Any) -> bool:
        """Record what an ``assert`` line asserts; anything else is control flow."""
        tracer: Any = self
        base: Any = super()
        code = _current_line().partition(" ")[2].strip("'\"")
        if not code.startswith("assert "):
            return bool(base.to_bool(value))
        import torch

        tracer.create_proxy("call_function", torch._assert, (value, code), {})
        return True

    def create_args_for_root(self, fn: Any, is_module: bool, concrete: Any = None) -> Any:
        positional, named = [self.root], {}
        for name, parameter in list(inspect.signature(fn).parameters.items())[1:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            value = self.given[name] if name in self.given else self._input(name)
            if parameter.kind is parameter.KEYWORD_ONLY:
                named[name] = value
            else:
                positional.append(value)
        return (lambda *args: fn(*args, **named)), positional

    def _input(self, name: str) -> Any:
        tracer: Any = self
        return tracer.create_proxy("placeholder", name, (), {})

    def create_arg(self, a: Any) -> Any:
        import torch

        base: Any = super()
        if isinstance(a, torch.Tensor) and not isinstance(a, torch.nn.Parameter):
            return base.create_node("get_attr", self._name_of(a), (), {})
        return base.create_arg(a)

    def _name_of(self, tensor: Any) -> str:
        """Return a tensor's name in the module, or keep it as a constant."""
        if not self.tensors:
            named = [*self.root.named_parameters(), *self.root.named_buffers()]
            self.tensors = {id(t): name for name, t in named}
        if id(tensor) not in self.tensors:
            name = f"_constant_{len(self.constants)}"
            self.tensors[id(tensor)], self.constants[name] = name, tensor
        return self.tensors[id(tensor)]


def _current_line() -> str:
    """Return the user's line that is being traced."""
    stack = "".join(
        f'File "{f.filename}", line {f.lineno}, in {f.function}\n'
        for f in reversed(inspect.stack(0))
    )
    return line_of_trace(stack, torch_folder())


@lru_cache(maxsize=1)
def _tracer_class() -> Any:
    import torch

    return type("Tracer", (_Bridging, torch.fx.Tracer), {})


@lru_cache(maxsize=1)
def _value_class() -> Any:
    """Return a proxy that also records what changes it in place."""
    import torch

    def recorder(function: Any) -> Callable[..., Any]:
        def record(self: Any, *args: Any) -> Any:
            done = self.tracer.create_proxy("call_function", function, (self, *args), {})
            return None if function is operator.setitem else done

        return record

    methods = {f"__{name}__": recorder(getattr(operator, name)) for name in _IN_PLACE}
    return type("Value", (torch.fx.Proxy,), methods)


@contextmanager
def _mode(root: Any, training: bool) -> Iterator[None]:
    """Set every module's training flag, and put it back as it was."""
    before = [(module, module.training) for module in root.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        for module, flag in before:
            module.training = flag


@contextmanager
def _kept(root: Any) -> Iterator[None]:
    """Refuse a forward that keeps something in the module, and put the module back as it was.

    Raises:
        UnsupportedError: naming the attribute.
    """
    before = [(path, m, dict(vars(m))) for path, m in root.named_modules()]
    changed: list[str] = []
    try:
        yield
    finally:
        for path, module, attributes in before:
            now = vars(module)
            for name in [n for n in now if n not in attributes or now[n] is not attributes[n]]:
                changed.append(f"{path}.{name}".lstrip("."))
                now.pop(name)
            now.update(attributes)
    if changed:
        raise UnsupportedError(
            f"port {type(root).__name__}",
            expected="a forward that leaves the module as it is",
            got=f"one that sets self.{changed[0]}",
            fix="take the state as an argument and return it",
        )


@contextmanager
def _counted(root: Any, tracer: Any) -> Iterator[None]:
    """Let ``len`` of traced values be recorded in the user's modules."""
    import torch

    def count(value: Any) -> Any:
        if isinstance(value, torch.fx.Proxy):
            return tracer.create_proxy("call_function", len, (value,), {})
        return len(value)

    spaces = {id(s): s for s in map(_globals_of, root.modules()) if s is not None}.values()
    changed = [space for space in spaces if "len" not in space]
    try:
        for space in changed:
            space["len"] = count
        yield
    finally:
        for space in changed:
            space.pop("len", None)


def _globals_of(module: Any) -> dict[str, Any] | None:
    forward = inspect.unwrap(type(module).forward)
    is_own = not getattr(forward, "__module__", "").startswith("torch.")
    return getattr(forward, "__globals__", None) if is_own else None
