"""``keras.models``: whole models from files, with ``lstm_bridge.`` in front of the import.

What reads files needs NumPy and h5py, so it is imported when first used: a front-end brings in
nothing but MLX.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstm_bridge.models.keras.load import load_model, model_from_json

__all__ = ["load_model", "model_from_json"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'lstm_bridge.keras.models' has no attribute {name!r}")
    from lstm_bridge.models.keras import load

    return getattr(load, name)
