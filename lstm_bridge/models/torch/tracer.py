"""torch.fx's tracer with what it does otherwise here.

torch is imported inside functions only.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.torch import asked
from lstm_bridge.models.torch.layers import kind_of, refused_kind
from lstm_bridge.models.torch.patches import FRESH
from lstm_bridge.models.torch.source import current_line, is_users
from lstm_bridge.models.torch.steps import Steps, slice_length
from lstm_bridge.models.torch.values import (
    LENGTH,
    is_of_structure,
    is_value,
    key_of,
    value_class,
)

CREATED = (
    "arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn",
    "randperm", "tensor", "zeros",
)  # fmt: skip
"""torch's functions that take sizes: torch.fx does not record them by itself."""

_MOST_RANKS = 6
_MOST_QUESTIONS = 24


class TooManyWays(UnsupportedError):
    """What a forward asks has no end, as a ``while`` over a length has none."""


def torch_folder() -> str:
    """Return the folder of the torch package, whose lines are not the user's."""
    import torch

    return str(Path(torch.__file__).parent)


@dataclass
class Inputs:
    """What forward is traced with.

    Args:
        given: argument → its constant value; all others become inputs of the graph.
        optional: arguments that may be left out, which is None.
        examples: argument → a tuple, list or dictionary like those that will come.
    """

    given: Mapping[str, Any]
    optional: Sequence[str] = ()
    examples: Mapping[str, Any] = field(default_factory=dict)


class Constants:
    """Tensors that forward uses but that are in no parameter or buffer, by a name of their own."""

    def __init__(self, root: Any) -> None:
        named = [*root.named_parameters(), *root.named_buffers()]
        self.names = {id(tensor): name for name, tensor in named}
        self.found: dict[str, Any] = {}

    def name_of(self, tensor: Any) -> str:
        """Return a tensor's name in the module, or keep it as a constant, once for each value."""
        import torch

        if id(tensor) in self.names:
            return str(self.names[id(tensor)])
        for name, kept in self.found.items():
            if kept.dtype == tensor.dtype and torch.equal(kept, tensor):
                return name
        name = f"_constant_{len(self.found)}"
        self.found[name] = tensor.detach().clone()
        return name


class Bridging:
    """What a torch.fx tracer does otherwise here; mixed into it where torch is imported."""

    proxy_buffer_attributes = True
    record_stack_traces = True

    def __init__(
        self, inputs: Inputs, answers: Sequence[bool], constants: Constants, length: int
    ) -> None:
        import torch
        from torch.nn.utils import rnn

        self.package = torch_folder()
        functions = [getattr(torch, name) for name in {*CREATED, *FRESH}]
        functions += [getattr(rnn, name) for name in rnn.__all__ if name[0].islower()]
        base: Any = super()
        base.__init__(autowrap_modules=(math,), autowrap_functions=tuple(functions))
        self._autowrap_search: Any = [math, torch, rnn]
        self.root: Any = None
        self.submodule_paths: Any = None
        self.graph: Any = None
        self.inputs, self.answers, self.constants = inputs, answers, constants
        self.length, self.loops = length, 0
        self.open: Steps | None = None
        self.clock = 0
        self.decisions: list[tuple[bool, bool]] = []
        self.known: dict[str, bool] = {}
        self.replaced: list[tuple[Any, str, Any, Any]] = []
        self.missed: set[tuple[int, str]] = set()
        self.unpacked: dict[str, int] = {}
        self.walked: list[str] = []

    def proxy(self, node: Any) -> Any:
        """Return what stands for a node's value."""
        return value_class()(node, self)

    def create_proxy(self, *args: Any, **kwargs: Any) -> Any:
        """Record a call; inside of ``torch.no_grad()`` its result carries no gradient."""
        import torch

        base: Any = super()
        made = base.create_proxy(*args, **kwargs)
        if torch.is_grad_enabled() or args[0] not in ("call_function", "call_method"):
            return made
        if is_of_structure(made.node) or made.node.target is operator.setitem:
            return made
        return base.create_proxy("call_method", "detach", (made,), {})

    def _filter_traceback_frames(self, frames: Any) -> Any:
        """Keep the line of the user's, whatever its function is called."""
        import traceback

        own = [f for f in frames if is_users(f.filename, self.package)]
        return traceback.StackSummary.from_list(own[-1:])

    # --- layers --------------------------------------------------------------------------------

    def is_leaf_module(self, module: Any, path: str) -> bool:
        """Whether a module stays whole.

        Raises:
            UnsupportedError: a layer that computes its weights anew at every call.
        """
        if kind_of(module) is not None:
            return True
        if refused_kind(module):
            raise UnsupportedError(
                f"port {path or 'module'!r} at {current_line(self.package)}",
                expected="a layer with a front-end in lstm_bridge.torch.nn, as it was made",
                got=f"{type(module).__name__} with hooks or parametrizations",
                fix="remove them first, e.g. with torch.nn.utils.remove_weight_norm or "
                "torch.nn.utils.parametrize.remove_parametrizations",
            )
        return False

    def call_module(self, module: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Record a layer's call, its several results as the tuple that they are."""
        base: Any = super()
        if module not in self.submodule_paths:
            return self._call_new(module, forward, args, kwargs)
        made = base.call_module(module, forward, args, kwargs)
        kind = kind_of(module)
        if kind is None or not is_value(made):
            return made
        if kind == "torch.nn.LSTM":
            return made[0], (made[1][0], made[1][1])
        if kind == "torch.nn.MultiheadAttention":
            wanted = args[4] if len(args) > 4 else kwargs.get("need_weights", True)
            return made[0], made[1] if wanted else None
        pair = ("torch.nn.GRU", "torch.nn.RNN", "torch.nn.LSTMCell")
        return (made[0], made[1]) if kind in pair else made

    def _call_new(self, module: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Trace through a module that forward has made itself."""
        if any(True for _ in module.state_dict()):
            raise self._refusal("modules that are made once", "a new one at every call")
        module.train(self.root.training)
        return forward(*args, **kwargs)

    # --- control flow --------------------------------------------------------------------------

    def to_bool(self, value: Any) -> bool:
        """Answer a question about structure both ways; record an ``assert``; refuse the rest."""
        code = current_line(self.package).partition(" ")[2].strip("'\"")
        if code.startswith("assert "):
            import torch

            tracer: Any = self
            tracer.create_proxy("call_function", torch._assert, (value, code), {})
            return True
        if not is_of_structure(value.node):
            raise self._refusal(
                "control flow that does not depend on the values of tensors", "a question of them"
            )
        return self.decide(value.node, False)

    def decide(self, node: Any, default: bool, is_optional: bool = False) -> bool:
        """Return the answer to a question on this way, and mark the place."""
        key = key_of(node)
        if key in self.known:
            return self.known[key]
        place = len(self.decisions)
        if place >= _MOST_QUESTIONS:
            raise TooManyWays(
                f"port {type(self.root).__name__} at {current_line(self.package)}",
                expected=f"at most {_MOST_QUESTIONS} questions about inputs in forward",
                got="more, one after the other",
                fix="write a loop over a length as for t in range(...)",
            )
        answer = self.answers[place] if place < len(self.answers) else default
        self.known[key] = answer
        self.decisions.append((answer, is_optional))
        graph: Any = self.graph
        if self.open is None:
            graph.create_node("call_function", asked.decided, (node, answer), {})
            return answer
        begin = self.open.begin
        with graph.inserting_before(begin):
            again = self._copied(node, self._before(begin))
            graph.create_node("call_function", asked.decided, (again, answer), {})
        return answer

    def _before(self, end: Any) -> set[Any]:
        found = set()
        for node in self.graph.nodes:
            if node is end:
                break
            found.add(node)
        return found

    def _copied(self, node: Any, outside: set[Any]) -> Any:
        """Repeat a question before the loop in which it is asked."""
        if node in outside:
            return node
        if not is_of_structure(node):
            raise self._refusal("loops whose steps are alike", "a question of a step's own values")
        graph: Any = self.graph
        return graph.node_copy(node, lambda inner: self._copied(inner, outside))

    def _refusal(self, expected: str, got: str) -> UnsupportedError:
        return UnsupportedError(
            f"port {type(self.root).__name__} at {current_line(self.package)}",
            expected=expected,
            got=got,
            fix="move it out of forward, or port with partial=True",
        )

    # --- loops ---------------------------------------------------------------------------------

    def iter(self, value: Any) -> Any:
        """Walk through a traced value: its parts if their number is known, or a loop."""
        count = self._count(value)
        if count is not None:
            return iter([value[k] for k in range(count)])
        self.walked.append(current_line(self.package))
        return Steps(self, lambda k: value[k], (value.node,))

    def loop_over_range(self, *limits: Any) -> Any:
        """Return the steps of ``range(...)`` with a limit that is not known yet."""
        start, stop, step = (0, limits[0], 1) if len(limits) == 1 else (*limits, 1)[:3]
        tracer: Any = self
        nodes = tuple(tracer.create_arg(limit) for limit in (start, stop, step))
        return Steps(self, lambda k: start + k * step, nodes, (start, stop, step))

    def _count(self, value: Any) -> int | None:
        """Return how many parts a value has; None if that depends on a length."""
        node = value.node
        if node.target == "chunk" or getattr(node.target, "__name__", "") == "chunk":
            count = node.kwargs.get("chunks", node.args[1] if len(node.args) > 1 else None)
            return count if isinstance(count, int) else None
        if (line := current_line(self.package)) in self.unpacked:
            self._assert_length(value, self.unpacked[line])
            return self.unpacked[line]
        if not is_of_structure(node) and not self._is_sequence(node):
            return None
        if node.target is operator.getitem and isinstance(node.args[1], slice):
            bounded = slice_length(node.args[1])
            if bounded is not None:
                return bounded
        tracer: Any = self
        rank = tracer.create_proxy("call_function", LENGTH, (value,), {})
        for count in range(1, _MOST_RANKS):
            if self.decide((rank == count).node, False):
                return count
        return _MOST_RANKS

    def _is_sequence(self, node: Any) -> bool:
        """Whether forward has asked before, and learnt that an input is a tuple or a list."""
        told = {("Tensor",): False, ("tuple",): True, ("list",): True, ("list", "tuple"): True}
        keys = {f"{asked.is_instance}({key_of((node, k))}, [])": v for k, v in told.items()}
        return any(self.known.get(key) is answer for key, answer in keys.items())

    def _assert_length(self, value: Any, count: int) -> None:
        import torch

        tracer: Any = self
        length = tracer.create_proxy("call_function", LENGTH, (value,), {})
        told = f"{count} parts to unpack"
        tracer.create_proxy("call_function", torch._assert, (length == count, told), {})

    # --- arguments -----------------------------------------------------------------------------

    def create_args_for_root(self, fn: Any, is_module: bool, concrete: Any = None) -> Any:
        """Return forward, and what it is called with."""
        self._put_constants()
        wanted = inspect.signature(fn).parameters
        parameters = [p for p in list(wanted.values())[1:] if p.kind not in _VARIADIC]
        values = {p.name: self._value_of(p) for p in parameters}
        more = [self._named_input(name) for name in self.inputs.examples if name[0] == "*"]
        for name in values:
            if name in self.inputs.optional and name not in self.inputs.given:
                tracer: Any = self
                asks = tracer.create_proxy("call_function", asked.is_none, (values[name],), {})
                if self.decide(asks.node, name not in self.inputs.examples, True):
                    values[name] = None
                    continue
            if name in self.inputs.examples:
                values[name] = _spread(values[name], self.inputs.examples[name])
        named = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
        positional = [values[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
        return (lambda *args: fn(*args, **named)), [self.root, *positional, *more]

    def _value_of(self, parameter: Any) -> Any:
        """Return what forward gets for an argument; None may be given where it gets None."""
        import torch

        name = parameter.name
        if name not in self.inputs.given:
            return self._input(parameter)
        value = self.inputs.given[name]
        if value is None:
            tracer: Any = self
            left_out = tracer.create_proxy("placeholder", name, (None,), {})
            asks = tracer.create_proxy("call_function", asked.is_none, (left_out,), {})
            told = f"{name} None, as when the model was ported"
            tracer.create_proxy("call_function", torch._assert, (asks, told), {})
        return value

    def _put_constants(self) -> None:
        """Let tensors that are plain attributes be recorded where forward uses them."""
        import torch

        graph: Any = self.graph
        for module in self.root.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, torch.Tensor):
                    node = graph.create_node("get_attr", self.constants.name_of(value))
                    vars(module)[name] = stand_in = self.proxy(node)
                    self.replaced.append((module, name, stand_in, value))

    def put_back(self) -> None:
        """Put plain attributes back, but for those that forward has set itself."""
        while self.replaced:
            module, name, stand_in, value = self.replaced.pop()
            if vars(module).get(name) is stand_in:
                vars(module)[name] = value

    def _input(self, parameter: Any) -> Any:
        tracer: Any = self
        default = (None,) if parameter.name in self.inputs.optional else ()
        return tracer.create_proxy("placeholder", parameter.name, default, {})

    def _named_input(self, name: str) -> Any:
        tracer: Any = self
        return tracer.create_proxy("placeholder", name.lstrip("*"), (), {})

    def create_arg(self, a: Any) -> Any:
        """Return an argument as it stands in the graph, tensors by their names."""
        import torch

        base: Any = super()
        is_own = isinstance(a, torch.nn.Parameter) and id(a) in self.constants.names
        if isinstance(a, torch.Tensor) and not is_own:
            return base.create_node("get_attr", self.constants.name_of(a), (), {})
        if isinstance(a, type):
            meant = getattr(a, "stands_for", a)
            return getattr(torch, _DTYPES[meant]) if meant in _DTYPES else base.create_arg(meant)
        return base.create_arg(a)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_DTYPES: dict[type, str] = {float: "float64", int: "int64", bool: "bool"}


def _spread(value: Any, example: Any) -> Any:
    """Return a container like an example, with the parts of a traced value in it."""
    if hasattr(example, "batch_sizes"):
        return value  # a packed sequence: a value of its own kind, though a tuple
    if isinstance(example, tuple | list):
        parts = [_spread(value[k], part) for k, part in enumerate(example)]
        return type(example)(*parts) if hasattr(example, "_fields") else type(example)(parts)
    if isinstance(example, Mapping):
        return {key: _spread(value[key], part) for key, part in example.items()}
    is_plain = example is None or isinstance(example, bool | int | float | str)
    return example if is_plain else value


@lru_cache(maxsize=1)
def tracer_class() -> Any:
    """Return the tracer's class, made where torch is there."""
    import torch

    return type("Tracer", (Bridging, torch.fx.Tracer), {})
