"""lstm_bridge carries LSTM-family models from PyTorch and Keras to Apple's MLX and back.

Put ``lstm_bridge.`` in front of the import: ``torch.nn.LSTM`` becomes
``lstm_bridge.torch.nn.LSTM``, ``keras.layers.LSTMCell`` becomes
``lstm_bridge.keras.layers.LSTMCell``, and so on. The names below are resolved when first used, so
that importing this package imports no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BridgeError": "lstm_bridge.errors",
    "InputSpec": "lstm_bridge.equivalence.inputs",
    "compare": "lstm_bridge.equivalence.compare",
    "config": "lstm_bridge.configuration",
    "convert": "lstm_bridge.models.convert",
    "convert_tree": "lstm_bridge.models.convert_tree",
    "inspect": "lstm_bridge.models.inspect",
    "load": "lstm_bridge.models.folder",
    "save": "lstm_bridge.models.folder",
    "portable": "lstm_bridge.core.paths",
    "port": "lstm_bridge.models.torch.port",
    "verify": "lstm_bridge.equivalence.verify",
}

__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lstm_bridge' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
