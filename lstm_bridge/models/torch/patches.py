"""What a user's forward calls differently while it is traced: questions and numbers recorded.

torch is imported inside functions only.
"""

from __future__ import annotations

import builtins
import operator
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.torch.asked import KINDS, is_instance, limit_of
from lstm_bridge.models.torch.source import current_line
from lstm_bridge.models.torch.values import is_value, kinds_of

FRESH = (
    "zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "normal", "bernoulli",
)  # fmt: skip
"""torch's functions whose results are new at every call, though nothing traced goes in."""

OF_NUMBERS = ("arange", "as_tensor", "eye", "linspace", "tensor")
"""torch's functions whose results are recorded where only plain numbers go in."""

_OLD_CLASSES = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16",
    "LongTensor": "int64", "IntTensor": "int32", "ByteTensor": "uint8", "BoolTensor": "bool",
}  # fmt: skip

_DRAWS = ("random", "uniform", "randint", "randrange", "choice", "gauss", "sample", "shuffle")
_NUMPY_DRAWS = (
    "rand",
    "randn",
    "random",
    "random_sample",
    "uniform",
    "normal",
    "randint",
    "choice",
)
_ABSENT = object()
_HERE = str(Path(__file__).resolve().parents[1])


@contextmanager
def patched(root: Any, tracer: Any, package: str) -> Iterator[None]:
    """Record, while forward runs, what Python itself answers otherwise.

    Args:
        root: the module whose forward is traced.
        tracer: what records.
        package: folder of torch, whose own lines are not the user's.
    """
    import torch

    def by_user() -> bool:
        return not sys._getframe(2).f_code.co_filename.startswith((package, _HERE, "<frozen"))

    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.enter_context(_attribute(owner, name, value))

        put(builtins, "isinstance", _isinstance(tracer, by_user))
        put(builtins, "len", _recorded(builtins.len, tracer))
        for name, dtype in _OLD_CLASSES.items():
            own = getattr(torch, name)
            put(torch, name, _old_class(own, getattr(torch, dtype), tracer))
        for name in FRESH:
            put(torch, name, _fresh(getattr(torch, name), tracer, by_user))
        for name in OF_NUMBERS:
            put(torch, name, _of_numbers(getattr(torch, name), tracer, by_user))
        put(torch, "is_tensor", lambda v: builtins.isinstance(v, torch.Tensor))
        put(torch.nn.Module, "parameters", _parameters(tracer, by_user))
        for name in _DRAWS:
            put(random, name, _drawn(getattr(random, name), by_user))
        if (numpy := sys.modules.get("numpy")) is not None:
            for name in _NUMPY_DRAWS:
                put(numpy.random, name, _drawn(getattr(numpy.random, name), by_user))
        # Only a hint, by which torch chooses among kernels; it is found by comparing the mask.
        hint = torch.nn.modules.transformer
        put(
            hint,
            "_detect_is_causal_mask",
            lambda mask, is_causal=None, size=None: is_causal is True,
        )
        put(torch, "finfo", _limits(torch.finfo, tracer))
        reading = torch.fx._symbolic_trace
        put(reading, "_orig_module_getattr", _missing(reading._orig_module_getattr, tracer))
        variable = torch.autograd.Variable
        put(torch.autograd, "Variable", _variable)
        names: dict[str, Any] = {
            "range": _range(tracer),
            "int": _number(int, tracer),
            "float": _number(float, tracer),
            "type": _type(tracer),
        }
        for space in _spaces(root, package):
            stack.enter_context(_names(space, names))
            held = [name for name, value in space.items() if value is variable]
            stack.enter_context(_names(space, dict.fromkeys(held, _variable), replace=True))
        yield


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _names(space: dict[str, Any], values: dict[str, Any], replace: bool = False) -> Iterator[None]:
    before = {n: space.get(n, _ABSENT) for n in values if replace or n not in space}
    try:
        space.update({name: values[name] for name in before})
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                space.pop(name, None)
            else:
                space[name] = value


def _spaces(root: Any, package: str) -> list[dict[str, Any]]:
    """Return the global names of the user's files: of all methods, and of what they import."""
    found: dict[int, dict[str, Any]] = {}
    for cls in {cls for module in root.modules() for cls in type(module).__mro__}:
        methods = [f for f in vars(cls).values() if isinstance(f, FunctionType)]
        own = sys.modules.get(cls.__module__)
        if _is_users(own, package):
            found |= {id(f.__globals__): f.__globals__ for f in methods}
    for space in list(found.values()):
        name = str(space.get("__name__", "")).partition(".")[0]
        for other in _mentioned(space.values(), name):
            found.setdefault(id(other), other)
    return list(found.values())


def _mentioned(values: Iterable[Any], top: str) -> list[dict[str, Any]]:
    """Return the global names of other files of one package that a file imports from."""
    found = []
    for value in list(values):
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] == top:
            found.append(vars(value))
        elif isinstance(value, FunctionType) and value.__module__.partition(".")[0] == top:
            found.append(value.__globals__)
    return found


def _is_users(module: Any, package: str) -> bool:
    file = getattr(module, "__file__", None)
    is_builtin = module is not None and module.__name__ in ("builtins", "abc", "typing")
    return not is_builtin and not (file is not None and file.startswith(package))


def _isinstance(tracer: Any, by_user: Callable[[], bool]) -> Callable[[Any, Any], bool]:
    import torch

    plain = builtins.isinstance

    def ask(value: Any, classes: Any) -> bool:
        if plain(value, classes) or not is_value(value) or not by_user():
            return plain(value, classes) or (classes is torch.Tensor and _is_checked(value))
        wanted = _flat(classes)
        known = kinds_of(value.node, tracer.root.get_submodule)
        if known is not None:
            return bool(known & {cls.__name__ for cls in wanted})
        unknown = [cls.__name__ for cls in wanted if cls.__name__ not in KINDS]
        if unknown:
            raise UnsupportedError(
                f"port at {current_line(tracer.package)}",
                expected=f"isinstance of an input with one of {', '.join(sorted(KINDS))}",
                got=unknown[0],
                fix="give example_inputs, or take the question out of forward",
            )
        names = tuple(sorted(cls.__name__ for cls in wanted))
        asks = tracer.create_proxy("call_function", is_instance, (value, names), {})
        if "Tensor" in names and value.node.target is operator.getitem:
            # Deeper than that, containers of containers would be asked for without an end.
            told = "tensors in the tuple, list or dictionary that is given"
            tracer.create_proxy("call_function", torch._assert, (asks, told), {})
            return True
        return bool(asks)

    return ask


def _is_checked(value: Any) -> bool:
    """Whether torch's own code asks, as it does of masks, for a tensor and has one."""
    file = Path(sys._getframe(2).f_code.co_filename)
    return is_value(value) and file.name in ("functional.py", "transformer.py")


def _flat(classes: Any) -> list[type]:
    parts = classes if type(classes) is tuple else getattr(classes, "__args__", None)
    if type(parts) is not tuple or isinstance(classes, type):
        return [classes]
    return [cls for part in parts for cls in _flat(part)]


def _recorded(function: Any, tracer: Any) -> Callable[[Any], Any]:
    def record(value: Any) -> Any:
        if is_value(value):
            return tracer.create_proxy("call_function", function, (value,), {})
        return function(value)

    return record


def _fresh(function: Any, tracer: Any, by_user: Callable[[], bool]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        if by_user():
            return tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return make


def _of_numbers(function: Any, tracer: Any, by_user: Callable[[], bool]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        if by_user() and all(map(_is_plain, args)):
            return tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return make


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return is_value(value) or isinstance(value, bool | int | float)


def _old_class(own: Any, dtype: Any, tracer: Any) -> Any:
    """Return one of torch's old tensor classes, whose sizes may be traced."""
    import torch

    empty, tensor = torch.empty, torch.tensor

    def made(*args: Any) -> Any:
        if not all(map(_is_plain, args)):
            return own(*args)
        is_data = len(args) == 1 and isinstance(args[0], list | tuple)
        function, given = (tensor, args) if is_data else (empty, args or (0,))
        return tracer.create_proxy("call_function", function, given, {"dtype": dtype})

    return _standing_for(own, made, dtype)


def _parameters(tracer: Any, by_user: Callable[[], bool]) -> Callable[..., Any]:
    import torch

    plain = torch.nn.Module.parameters

    def parameters(self: Any, recurse: bool = True) -> Any:
        found = plain(self, recurse)
        if not by_user():
            return found
        return iter([tracer.proxy(tracer.create_arg(tensor)) for tensor in found])

    return parameters


def _limits(plain: Any, tracer: Any) -> Callable[..., Any]:
    class Limits:
        """The limits of a dtype that is not known yet."""

        def __init__(self, dtype: Any) -> None:
            self.dtype = dtype

        def __getattr__(self, name: str) -> Any:
            return tracer.create_proxy("call_function", limit_of, (self.dtype, name), {})

    return lambda *dtype: Limits(*dtype) if any(map(is_value, dtype)) else plain(*dtype)


def _missing(function: Any, tracer: Any) -> Callable[..., Any]:
    """Note which attributes a module was asked for in vain."""

    def read(module: Any, name: str) -> Any:
        try:
            return function(module, name)
        except AttributeError:
            tracer.missed.add((id(module), name))
            raise

    return read


def _variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Any:
    """Return the tensor, which torch.autograd.Variable wraps no more."""
    return data


def _range(tracer: Any) -> Any:
    def made(*limits: Any) -> Any:
        return tracer.loop_over_range(*limits) if any(map(is_value, limits)) else range(*limits)

    return _standing_for(range, made)


def _number(cls: type, tracer: Any) -> Any:
    def made(*args: Any) -> Any:
        if args and is_value(args[0]):
            return tracer.create_proxy("call_function", cls, args, {})
        return cls(*args)

    return _standing_for(cls, made)


def _type(tracer: Any) -> Any:
    def made(value: Any, *more: Any) -> Any:
        if is_value(value):
            raise UnsupportedError(
                f"port at {current_line(tracer.package)}",
                expected="questions that have an answer for every input",
                got="type() of a value that is not known yet",
                fix="use isinstance",
            )
        return type(value, *more)

    return _standing_for(type, made)


def _standing_for(own: type, made: Callable[..., Any], dtype: Any = None) -> Any:
    """Return a class that makes what a function returns, with the instances of ``own``."""

    class Meta(type):
        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, own)

    stands = {"__new__": lambda _, *args: made(*args), "stands_for": dtype or own}
    return Meta(own.__name__, (), stands)


def _drawn(function: Any, by_user: Callable[[], bool]) -> Callable[..., Any]:
    def draw(*args: Any, **kwargs: Any) -> Any:
        return Drawn() if by_user() else function(*args, **kwargs)

    return draw


class Drawn:
    """A random number of Python's, of which only is known that it lies in [0, 1).

    Raises:
        UnsupportedError: anything else is asked of it.
    """

    def __lt__(self, other: Any) -> bool:
        return self._below(other)

    def __le__(self, other: Any) -> bool:
        return self._below(other)

    def __gt__(self, other: Any) -> bool:
        return not self._below(other)

    def __ge__(self, other: Any) -> bool:
        return not self._below(other)

    def _below(self, other: Any) -> bool:
        if isinstance(other, int | float) and not 0 < other < 1:
            return other >= 1
        raise self._unknown()

    def __getattr__(self, name: str) -> Any:
        raise self._unknown()

    def __index__(self) -> int:
        raise self._unknown()

    def __float__(self) -> float:
        raise self._unknown()

    def _unknown(self) -> UnsupportedError:
        return UnsupportedError(
            "port a forward that draws random numbers with Python's random",
            expected="lines that do the same for every call",
            got=f"a choice by chance at {current_line('')}",
            fix="pass the probability 0 or 1 with example_inputs",
        )
