"""``keras.models``: whole models from files, with ``lstm_bridge.`` in front of the import."""

from lstm_bridge.models.keras_load import load_model, model_from_json

__all__ = ["load_model", "model_from_json"]
