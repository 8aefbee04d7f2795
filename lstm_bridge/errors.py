"""Every error this package raises on purpose.

::

    BridgeError                      what to catch to catch them all
    ├── UsageError         E700  2   the call itself is wrong (also a ValueError)
    │   ├── ShapeError     E710      an array or weight of the wrong shape (also a RuntimeError)
    │   ├── UnsupportedError E720    an argument or layer that cannot be honoured (also a
    │   │                            NotImplementedError)
    │   ├── ArgumentTypeError E730   an argument of the wrong type (also a TypeError)
    │   └── CallError      E740      arguments that do not fit together (also a RuntimeError)
    ├── RefusedInput             3   a checkpoint that is not converted
    │   ├── ContainerError E100      zip, HDF5, pickle or file magic
    │   ├── HeaderError    E200      safetensors or npy header
    │   ├── TensorError    E300      one tensor's bytes, shape or dtype
    │   ├── ConfigError    E400      a model's architecture description
    │   └── SemanticError  E500      names and shapes that make no layer
    └── FileSystemError    E600  4   the target or the source on disk (also an OSError)

The number after the code is the process exit status of ``lstm-bridge``.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

_NAME_LIMIT = 120


def quote(name: object) -> str:
    """Return ``name`` repr-escaped and cut at 120 characters, safe to print on one line."""
    text = repr(str(name))
    return text if len(text) <= _NAME_LIMIT else text[: _NAME_LIMIT - 4] + "...'"


class BridgeError(Exception):
    """Base of all errors raised on purpose by lstm_bridge.

    Args:
        subject: what the error is about, e.g. ``"torch.nn.LSTM input"``.
        expected: what would have been accepted.
        got: what was received.
        fix: what the reader can do about it.
    """

    code: ClassVar[str] = "E000"
    exit_status: ClassVar[int] = 1

    def __init__(self, subject: str, *, expected: str, got: str, fix: str = "") -> None:
        self.subject, self.expected, self.got, self.fix = subject, expected, got, fix
        super().__init__(self._line())

    def _line(self) -> str:
        tail = f"; {self.fix}" if self.fix else ""
        text = f"[{self.code}] {self.subject}: expected {self.expected}, got {self.got}{tail}"
        return " ".join(text.split())


class UsageError(BridgeError, ValueError):
    """The call itself is wrong: an argument's value, type or combination."""

    code = "E700"
    exit_status = 2


class ShapeError(UsageError, RuntimeError):
    """An array has the wrong rank, shape or dtype for the layer it was given to.

    torch raises RuntimeError and Keras ValueError for this; callers of either catch it.
    """

    code = "E710"


class UnsupportedError(UsageError, NotImplementedError):
    """An argument, layer or option that is understood but cannot be honoured here."""

    code = "E720"


class ArgumentTypeError(UsageError, TypeError):
    """An argument has the wrong type."""

    code = "E730"


class CallError(UsageError, RuntimeError):
    """Arguments do not fit together, e.g. a state dict and a module, or lengths and their order.

    torch raises RuntimeError for this.
    """

    code = "E740"


class RefusedInput(BridgeError):
    """A checkpoint is refused; nothing was written.

    Args:
        file: the file as the caller named it.
        member: the part inside the container, if any.
        tensor: the tensor's name, if one is to blame.
        expected: what a readable file has there.
        got: what is there.
        fix: what the reader can do about it.
    """

    code = "E100"
    exit_status = 3

    def __init__(
        self,
        file: str | Path,
        *,
        expected: str,
        got: str,
        fix: str,
        member: str | None = None,
        tensor: str | None = None,
    ) -> None:
        self.file, self.member, self.tensor = str(file), member, tensor
        where = printable(self.file)
        if member is not None:
            where += f":{printable(member)}"
        if tensor is not None:
            where += f" tensor {quote(tensor)}"
        super().__init__(where, expected=expected, got=got, fix=fix)


class ContainerError(RefusedInput):
    """The container (zip, HDF5, pickle stream, magic bytes) is damaged or hostile."""

    code = "E100"


class HeaderError(RefusedInput):
    """A safetensors or npy header breaks its format's rules."""

    code = "E200"


class TensorError(RefusedInput):
    """One tensor's dtype, shape, stride or bytes cannot be taken."""

    code = "E300"


class ConfigError(RefusedInput):
    """A model's architecture description is unreadable, unknown or contradictory."""

    code = "E400"


class SemanticError(RefusedInput):
    """Names and shapes do not add up to the layer they claim to be."""

    code = "E500"


class FileSystemError(BridgeError, OSError):
    """The source or the target cannot be read, created or replaced."""

    code = "E600"
    exit_status = 4


def printable(name: object) -> str:
    """Return ``name`` escaped and cut where it would break the line; ordinary names as they are."""
    text = str(name)
    quoted = quote(text)
    return text if quoted == f"'{text}'" else quoted
