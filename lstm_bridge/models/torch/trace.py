"""Tracing one way through a torch module's forward, the supported layers kept whole.

torch is imported inside functions only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lstm_bridge.errors import BridgeError, UnsupportedError
from lstm_bridge.models.torch.patches import patched
from lstm_bridge.models.torch.source import line_of_error
from lstm_bridge.models.torch.tracer import Constants, Inputs, torch_folder, tracer_class


@dataclass
class Trace:
    """One way through forward.

    Args:
        graph: of torch.fx; of use only without a failure.
        decisions: the answers on which the way depends, and whether each was asked of an optional
            argument that is left out by default.
        failure: what stopped it. Default: nothing.
        loops: whether there are loops over lengths.
    """

    graph: Any
    decisions: list[tuple[bool, bool]]
    failure: UnsupportedError | None
    loops: bool


def trace(
    root: Any,
    inputs: Inputs,
    training: bool,
    constants: Constants,
    answers: Sequence[bool] = (),
    length: int = 4,
) -> Trace:
    """Trace one way through a module's forward.

    Args:
        root: the torch module.
        inputs: what forward is called with.
        training: the mode in which ``self.training`` is read.
        constants: collects the tensors that are in the graph but not in the module.
        answers: to the first questions that forward's control flow asks.
        length: of the recorded loops.

    Raises:
        UnsupportedError: forward keeps something in the module.
    """
    first = _Attempt(root, inputs, training, constants, answers, length)
    found = first.run()
    if not first.changed:
        return found
    # What forward sets before it reads it is no state: it is found without it, too.
    again = _Attempt(root, inputs, training, constants, answers, length)
    found = again.run(without=first.changed)
    if found.failure is None and not again.changed:
        return found
    raise UnsupportedError(
        f"port {type(root).__name__}",
        expected="a forward that leaves the module as it is",
        got=f"one that sets self.{'.'.join(filter(None, first.changed[0]))}",
        fix="take the state as an argument and return it",
    )


class _Attempt:
    """One run of forward."""

    def __init__(
        self,
        root: Any,
        inputs: Inputs,
        training: bool,
        constants: Constants,
        answers: Sequence[bool],
        length: int,
    ) -> None:
        self.root, self.training = root, training
        self.arguments = (inputs, answers, constants, length)
        self.tracer = tracer_class()(*self.arguments)
        self.changed: list[tuple[str, str]] = []

    def run(self, without: Sequence[tuple[str, str]] = ()) -> Trace:
        """Trace forward, the module put back as it was; ``changed`` then says what forward sets.

        Args:
            without: attributes that are taken away for the time.
        """
        with _mode(self.root, self.training):
            before = [(path, m, dict(vars(m))) for path, m in self.root.named_modules()]
            for path, name in without:
                vars(self.root.get_submodule(path)).pop(name, None)
            started = [(path, m, dict(vars(m))) for path, m, _ in before]
            try:
                failure = self._traced()
            finally:
                self.changed = [c for entry in started for c in self._set(*entry)]
                for _, module, attributes in before:
                    vars(module).clear()
                    vars(module).update(attributes)
        tracer = self.tracer
        return Trace(tracer.graph, tracer.decisions, failure, tracer.loops > 0)

    def _set(self, path: str, module: Any, attributes: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield what forward has set that it may have read before."""
        for name, value in vars(module).items():
            is_new = name not in attributes
            missed = (id(module), name) in self.tracer.missed
            if (is_new and missed) or (not is_new and attributes[name] is not value):
                yield path, name

    def _traced(self) -> UnsupportedError | None:
        import torch

        try:
            with patched(self.root, self.tracer, self.tracer.package), torch.enable_grad():
                self.tracer.trace(self.root)
        except BridgeError as error:
            return _as_unsupported(error)
        except Exception as error:
            if self._learnt(error):
                return self._traced()
            failure = UnsupportedError(
                f"port {type(self.root).__name__} at {line_of_error(error, torch_folder())}",
                expected="lines that do the same for every input",
                got=" ".join(str(error).split())[:200] or type(error).__name__,
                fix="move it out of forward, or port with partial=True",
            )
            failure.__cause__ = error
            return failure
        finally:
            self.tracer.put_back()
        return None

    def _learnt(self, error: Exception) -> bool:
        """Whether an error tells how many parts its line walked through."""
        said = re.search(r"values to unpack \(expected (\d+)", str(error))
        line = line_of_error(error, torch_folder())
        if line not in self.tracer.walked and self.tracer.walked:
            line = self.tracer.walked[-1]
        if said is None or line in self.tracer.unpacked:
            return False
        unpacked = self.tracer.unpacked | {line: int(said[1])}
        self.tracer.put_back()
        self.tracer = tracer_class()(*self.arguments)
        self.tracer.unpacked = unpacked
        return True


def _as_unsupported(error: BridgeError) -> UnsupportedError:
    if isinstance(error, UnsupportedError):
        return error
    return UnsupportedError(error.subject, expected=error.expected, got=error.got, fix=error.fix)


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
