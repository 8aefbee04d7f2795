"""Training mode as a value in a graph, for models whose own lines ask for it."""

from __future__ import annotations

import mlx.nn as nn

from lstm_bridge.errors import UnsupportedError

__all__ = ["EvalOnly", "Mode"]


class Mode(nn.Module):
    """Whether the model is training, as in ``dropout(x, training=self.training)``."""

    def __call__(self) -> bool:
        """Return the mode that ``train()`` and ``eval()`` set."""
        return bool(self.training)


class EvalOnly(nn.Module):
    """Stands at the head of a model whose lines for training could not be ported.

    Args:
        reason: what differs while training, and where.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __call__(self) -> None:
        """Go on in eval mode.

        Raises:
            UnsupportedError: in training mode.
        """
        if self.training:
            raise UnsupportedError(
                "training", expected="a model whose lines do not depend on it", got=self.reason
            )
