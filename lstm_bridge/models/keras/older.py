"""Keras 1's and 2's merging layers, which treat masks otherwise than Keras 3's.

A step of the result counts where it counts in every input that has a mask, and masked numbers are
added, multiplied and compared as all others are. In Keras 3 a step counts where it counts in any.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from lstm_bridge.keras import layers

__all__ = ["Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract"]

if TYPE_CHECKING:
    _Base = layers.Add
else:
    _Base = object


class _Older(_Base):
    """Masks of the inputs with one, and-ed; no number is left out for its mask."""

    def _merged(self, arrays: list[mx.array], masks: list[mx.array | None]) -> mx.array:
        return super()._merged(arrays, [None] * len(arrays))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the masks and-ed together, None if no input has one."""
        return _all(mask or ())


def _all(masks: Any) -> Any:
    known = [mask.astype(mx.bool_) for mask in masks if mask is not None]
    return functools.reduce(mx.logical_and, known) if known else None


class Add(_Older, layers.Add):
    """The sum of all inputs. Source: keras.layers.Add 2.15."""


class Average(_Older, layers.Average):
    """The mean of all inputs. Source: keras.layers.Average 2.15."""


class Maximum(_Older, layers.Maximum):
    """The largest of all inputs. Source: keras.layers.Maximum 2.15."""


class Minimum(_Older, layers.Minimum):
    """The smallest of all inputs. Source: keras.layers.Minimum 2.15."""


class Multiply(_Older, layers.Multiply):
    """The product of all inputs. Source: keras.layers.Multiply 2.15."""


class Subtract(_Older, layers.Subtract):
    """The first input minus the second. Source: keras.layers.Subtract 2.15."""


class Concatenate(layers.Concatenate):
    """All inputs, one behind the other along an axis. Source: keras.layers.Concatenate 2.15."""

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return where every number counts; an input without a mask counts everywhere."""
        if mask is None or all(one is None for one in mask):
            return None
        wide = [
            mx.ones(x.shape, mx.bool_)
            if one is None
            else mx.broadcast_to(one[..., None] if one.ndim < x.ndim else one, x.shape)
            for x, one in zip(inputs, mask, strict=True)
        ]
        joined = mx.concatenate([one.astype(mx.bool_) for one in wide], axis=self.axis)
        return mx.all(joined, axis=-1)
