"""Seeds for initializers and dropout: Keras's SeedGenerator over MLX's random keys."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.naming import auto_name
from lstm_bridge.keras.saving import keras_export


def make_default_seed() -> int:
    """Return a fresh seed from MLX's global generator, so that ``mx.random.seed`` fixes it."""
    seed: Any = mx.random.randint(1, 1_000_000_000).item()
    return int(seed)


def check_seed(seed: Any) -> int:
    """Return ``seed`` if it is an integer.

    Raises:
        UsageError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError("seed", expected="an integer", got=repr(seed))
    return seed


@keras_export("keras.random")
class SeedGenerator(nn.Module):
    """Hands out a new random key at each use.

    Args:
        seed: integer, or None to draw from MLX's global generator. The same seed gives the same
            keys in every run, but not Keras's numbers: the generators differ. Default: None.
        name: name of the generator. Default: numbered automatically.

    Source: keras.random.SeedGenerator 3.15.
    """

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        super().__init__()
        self.name = auto_name(type(self).__name__) if name is None else name
        self._initial_seed = None if seed is None else check_seed(seed)
        self.reset()

    def reset(self) -> None:
        """Start again from the seed."""
        # An array under a private key: part of Module.state, for mx.compile, yet no parameter.
        seed = self._initial_seed
        self._state = None if seed is None else mx.random.key(seed & 0xFFFFFFFFFFFFFFFF)

    def next(self) -> mx.array | None:
        """Return a key for mx.random; None stands for MLX's global generator."""
        if self._state is None:
            return None
        self._state, key = mx.random.split(self._state)
        return key

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": self._initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        """Make a generator from its config."""
        return cls(**config)
