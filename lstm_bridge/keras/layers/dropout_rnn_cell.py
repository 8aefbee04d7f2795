"""Dropout masks that hold for a whole sequence."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.keras.random import SeedGenerator


class DropoutRNNCell:
    """Mixed into a cell: draws its masks at the first step and keeps them until reset.

    A cell has ``dropout`` (of the inputs), ``recurrent_dropout`` (of the hidden state), a
    ``seed_generator`` and, for one mask per gate, ``dropout_mask_count``.

    Source: keras.src.layers.rnn.dropout_rnn_cell.DropoutRNNCell 3.15.
    """

    dropout: float
    recurrent_dropout: float
    dropout_mask_count: int | None = None
    _seed_generator: SeedGenerator

    @property
    def seed_generator(self) -> SeedGenerator:
        """Where the masks' random keys come from."""
        return self._seed_generator

    def _create_dropout_mask(self, like: mx.array, rate: float) -> Any:
        """Scaled keep-masks of the shape of ``like``; one, or one per gate."""
        count = self.dropout_mask_count
        masks = [self._one_mask(like, rate) for _ in range(count or 1)]
        return masks if count else masks[0]

    def _one_mask(self, like: mx.array, rate: float) -> mx.array:
        if rate >= 1.0:
            return mx.zeros_like(like)
        keep = mx.random.bernoulli(1.0 - rate, like.shape, key=self._seed_generator.next())
        return keep.astype(like.dtype) / (1.0 - rate)

    def _kept(self, key: str, like: mx.array, rate: float) -> Any:
        # A plain attribute: as an entry of the module it would be part of its state.
        if self.__dict__.get(key) is None and rate > 0:
            self.__dict__[key] = self._create_dropout_mask(like, rate)
        return self.__dict__.get(key)

    def get_dropout_mask(self, step_input: mx.array) -> Any:
        """Return the inputs' mask, drawing it if there is none yet; None without dropout."""
        return self._kept("_dropout_mask", step_input, self.dropout)

    def get_recurrent_dropout_mask(self, step_input: mx.array) -> Any:
        """Return the hidden state's mask, drawing it if there is none yet."""
        return self._kept("_recurrent_dropout_mask", step_input, self.recurrent_dropout)

    def reset_dropout_mask(self) -> None:
        """Forget the inputs' mask; RNN does so after each sequence."""
        self.__dict__["_dropout_mask"] = None

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the hidden state's mask."""
        self.__dict__["_recurrent_dropout_mask"] = None
